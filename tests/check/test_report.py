"""What a report says and shows, and what `check.mutants` says."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rules import with_rule

import jaxcnn
from jaxcnn import check
from jaxcnn.check.breakages import BREAKAGES
from jaxcnn.check.examination import examined
from jaxcnn.check.location import locate
from jaxcnn.check.options import case_of
from jaxcnn.check.picture import picture
from jaxcnn.check.report import Comparison, Report
from jaxcnn.check.rules import Rule, equations_with_rules
from jaxcnn.check.wording import one_line

X = jnp.asarray(np.random.default_rng(7).normal(size=(40, 30)), jnp.float32)
BAD = with_rule(lambda x, w: jnp.sin(x) * w, lambda x, w, dy: (dy * w * jnp.cos(x), -dy * jnp.sin(x)))


@pytest.fixture(scope="module")
def bad():
    return check.gradients(BAD, X, 1 + X)


def test_one_line_for_each_output_and_argument(bad):
    lines = str(bad).splitlines()
    assert [line.split(":")[0] for line in lines] == ["output", "gradient of x", "gradient of w", "(rules reached"]
    assert lines[0].startswith("output: right; equal to the last bit; would have seen ")
    assert "gradient of w: WRONG: 1200 of 1200 entries; worst at [" in lines[2]
    assert re.search(r"\(relative error 2.0e\+00, [23]e\+07 ulp, a usual entry is ", lines[2])
    assert "where: everywhere, the opposite sign" in lines[2]


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
def test_seen_is_what_would_have_been_seen(dtype):
    """An error of twice that size in a usual entry is found, and one of a quarter of it is not."""
    case, names = case_of("gradients", jaxcnn.sigmoid, (X.astype(dtype),))
    examination = examined(case, names)
    decisive = examination.own_run or examination.double_run

    def rule(error):
        def broken(run):
            y, dx = run.got
            if run is not decisive:
                return [y, dx]
            size = np.sqrt(np.mean(np.square(np.asarray(dx, np.float64))))
            usual = np.unravel_index(np.argmin(np.abs(np.abs(np.asarray(dx, np.float64)) - size)), dx.shape)
            dx = np.array(dx)
            dx[usual] = float(dx[usual]) * (1 + error)
            return [y, dx]

        return broken

    seen = examination.differences(decisive, decisive.got)[1].seen
    assert not examination.accepts(rule(2 * seen))
    assert examination.accepts(rule(seen / 4))


def test_table(bad):
    table = bad.table()
    lines = str(table).splitlines()
    assert lines[0] == "|  | verdict | where | worst | would have seen |"
    assert lines[4].startswith(
        "| gradient of w | WRONG: 1200 of 1200 entries | everywhere, the opposite sign | worst at"
    )
    assert table._repr_markdown_() == str(table)
    assert "<svg" not in str(table)


def test_a_notebook_shows_the_table_with_pictures(bad):
    page = ElementTree.fromstring(f"<div>{bad._repr_html_()}</div>")
    assert page.findtext("p/b") == "WRONG"
    rows = page.findall("table/tbody/tr")
    svg = "td/{http://www.w3.org/2000/svg}svg"
    assert [len(row.findall(svg)) for row in rows] == [0, 0, 1]
    assert [row.findtext("td[2]") for row in rows] == ["right", "right", "WRONG: 1200 of 1200 entries"]


def drawn(errors):
    """The colour of each cell as its rank, from dark to bright; the places of discs; what is said below."""
    svg, *captions = ElementTree.fromstring(f"<div>{picture(np.asarray(errors))}</div>")
    _, _, width, height = map(int, svg.get("viewBox").split())
    cells, discs = np.zeros((height, width), int), []
    paths = svg.findall("{*}path")
    for rank, path in enumerate([path for path in paths if path.get("fill")], 1):
        for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)v1", path.get("d")):
            cells[int(y), int(x) : int(x) + int(length)] = rank
    for path in paths:
        if path.get("stroke"):
            discs = [(int(y), int(x)) for x, y in re.findall(r"M(\d+).5 (\d+).5", path.get("d"))]
    return cells, discs, ["".join(caption.itertext()).strip() for caption in captions]


def test_a_picture_shows_where_the_errors_lie():
    """It has the two axes along which they differ most: here the rows and the columns of images."""
    errors = np.zeros((4, 9, 8, 6))
    errors[:, 8] = -1.0
    errors[:, :, 0] = 0.01
    errors[3, 2, 5, 1] = np.nan
    cells, discs, said = drawn(errors)
    expected = np.zeros((9, 8), int)
    expected[8], expected[:, 0] = 2, 1
    expected[8, 0] = 1
    np.testing.assert_array_equal(cells, expected)
    assert discs == [(2, 5)]
    assert said == [
        "axis 1 down, axis 2 across, the largest error over axes 0, 3",
        "0.01  1 times a usual entry, white discs: NaN or infinite",
    ]


@pytest.mark.parametrize(
    ("shape", "index", "cell", "size", "said"),
    [
        ((5,), (3,), (0, 3), (1, 5), "axis 0 across"),
        ((1, 700, 1), (0, 699, 0), (0, 63), (1, 64), "axis 1 across, a cell is 11 entries"),
        ((300, 65), (299, 64), (59, 32), (60, 33), "axis 0 down, axis 1 across, a cell is 5×2 entries"),
    ],
)
def test_a_picture_of_one_entry(shape, index, cell, size, said):
    errors = np.zeros(shape)
    errors[index] = 3.0
    cells, discs, caption = drawn(errors)
    assert cells.shape == size
    assert np.argwhere(cells).tolist() == [list(cell)]
    assert (discs, caption) == ([], [said, "3 times a usual entry"])


def test_a_name_with_html_in_it_is_escaped():
    report = check.gradients(lambda d: jnp.sin(d["<b>|"]), {"<b>|": X})
    table = report.table()
    assert "&lt;b&gt;" in report._repr_html_()
    assert "<b>|" not in report._repr_html_()
    assert str(table).splitlines()[3].count("|") - str(table).splitlines()[3].count(r"\|") == 6


def test_of_a_traceback_the_last_line_is_told():
    error = RuntimeError('callback:\nTraceback (most recent call last):\n  File "a.py"\nValueError: no\n')
    assert one_line(error) == "RuntimeError: ValueError: no"
    assert one_line(ValueError("one\n  two")) == "ValueError: one two"


def test_a_rule_by_defjvps_is_where_its_function_is():
    """Its JVP is a function of JAX, which nobody looks for."""
    f = jax.custom_jvp(lambda x: jnp.sin(x))
    f.defjvps(lambda dx, y, x: dx * jnp.cos(x))
    [(rule, _)] = equations_with_rules(jax.make_jaxpr(f)(1.0).jaxpr)
    assert (rule.file, rule.kind) == (__file__, "custom_jvp")


RULE = Rule("f", "/a/b/rules.py", 7, "custom_vjp")
MIXED = Report(
    (
        Comparison("gradient of x", "1 of 2 entries", "worst at [0]", "one entry", "1e-10", rules=(RULE,)),
        Comparison("gradient of w", "all, by 5 %\nand more", rules=(RULE,)),
        Comparison("gradient of b", None, reason="it is zero", optional=True),
        Comparison("two calls", "they differ"),
    ),
    ("a note",),
)


def test_json():
    found = json.loads(json.dumps(MIXED.to_json(), allow_nan=False))
    assert found.keys() == {"verdict", "comparisons", "notes", "rules", "not_reached"}
    assert (found["verdict"], found["notes"]) == ("wrong", ["a note"])
    assert found["comparisons"][0] == {
        "name": "gradient of x",
        "verdict": "wrong",
        "problem": "1 of 2 entries",
        "reason": "",
        "worst": "worst at [0]",
        "where": "one entry",
        "seen": "1e-10",
        "kink": "",
        "optional": False,
        "rules": [{"name": "f", "file": "/a/b/rules.py", "line": 7, "kind": "custom_vjp"}],
    }
    assert [(row["verdict"], row["problem"]) for row in found["comparisons"][2:]] == [
        ("not checked", None),
        ("wrong", "they differ"),
    ]


@pytest.mark.parametrize(
    ("workspace", "file", "place"),
    [
        ("/a", "/a/b/rules.py", "file=b/rules.py,line=7,"),
        ("/c", "/a/b/one,two.py", "file=/a/b/one%2Ctwo.py,line=7,"),
        ("/a", "<stdin>", ""),
    ],
)
def test_annotations_of_github(monkeypatch, workspace, file, place):
    """One for each rule: GitHub shows ten of a step."""
    monkeypatch.setenv("GITHUB_WORKSPACE", workspace)
    rows = [replace(row, rules=(replace(RULE, file=file),) if row.rules else ()) for row in MIXED.comparisons]
    of_rule, other = Report(tuple(rows)).annotations()
    assert of_rule == (
        f"::error {place}title=custom_vjp of f is wrong::gradient of x: WRONG: 1 of 2 entries; worst at [0]; "
        "where: one entry; would have seen 1e-10%0Agradient of w: WRONG: all, by 5 %25%0Aand more"
    )
    assert other == "::error title=a gradient is wrong::two calls: WRONG: they differ"


def test_pytest_shows_the_report(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "import jax\nimport jax.numpy as jnp\nfrom jaxcnn import check\n\n"
        "f = jax.custom_vjp(lambda x: jnp.sin(x))\n"
        "f.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (-dy * jnp.cos(x),))\n\n\n"
        "def test_it():\n    assert check.gradients(f, jnp.arange(50.0))\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert "1 failed" in said
    assert "assert WRONG gradient of x: 50 of 50 entries, everywhere, the opposite sign (worst at [" in said


def test_locations():
    rng = np.random.default_rng(8)
    right = rng.normal(size=(4, 9, 8, 6))

    def located(change):
        got = right.copy()
        got = change(got)
        return locate(got, right, got != right, 1e-9, batch=4)

    def doubled(*index):
        def change(got):
            got[index] *= 2
            return got

        return change

    every = slice(None)
    assert located(doubled(2, 3, 4, 5)) == "one entry"
    assert located(doubled(2)) == "one image: 2 of axis 0, by the factor 2"
    assert located(doubled(every, 8)) == "one index: 8 of axis 1, the last, by the factor 2"
    assert located(doubled(every, slice(7, 9))) == "last 2 of 9 along axis 1, by the factor 2"
    assert located(doubled(every, slice(None, None, 2))) == "every 2 from 0 on along axis 1, by the factor 2"
    assert located(doubled(..., slice(0, 3))) == "first 3 of 6 along axis 3, by the factor 2"
    assert located(doubled(every, every, [0, 7])) == "both ends of axis 2, by the factor 2"
    assert located(lambda got: -got) == "everywhere, the opposite sign"
    assert located(lambda got: got / 48) == "everywhere, by the factor 1/48"
    assert located(lambda got: got + 0.5) == "everywhere, by 0.5 each"
    assert located(lambda got: 0 * got) == "everywhere, zero instead"
    assert located(lambda got: got * np.nan) == "everywhere, NaN"
    assert located(lambda got: np.roll(got, -1, 2)) == "shifted by -1 along axis 2"
    assert located(lambda got: got[:, ::-1, ::-1]) == "flipped along axes 1, 2"
    assert located(lambda got: got[:, rng.permutation(9)]) == "the right numbers in wrong places"
    assert located(lambda got: got + rng.normal(size=got.shape)) == "everywhere"
    assert locate(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 3.0]), np.array([True, True, False]), 1e-9) == (
        "the right numbers in wrong places"
    )
    # errors that cancel
    assert locate(np.array([1.5, 1.5, 3.0]), np.array([2.0, 1.0, 3.0]), np.array([True, True, False]), 1e-9) == (
        "first 2 of 3 along axis 0"
    )


def test_mutants_are_listed():
    assert len(BREAKAGES) >= 25
    mutants = check.mutants(jaxcnn.dense, X, X.T)
    assert mutants
    assert len(mutants.caught) + len(mutants.equivalent) == 2 * len(BREAKAGES)
    assert "wrong sign, gradient of w" in mutants.caught
    assert "the first channel dropped, gradient of x" in mutants.caught
    assert str(mutants).startswith(f"caught {len(mutants.caught)} of {len(mutants.caught)} broken rules")


def test_mutants_that_change_nothing_are_not_missed():
    """A gradient that is the same everywhere cannot be seen to be shifted."""
    mutants = check.mutants(lambda x: jnp.sum(x), jnp.ones((8, 7)))
    assert mutants
    assert "not flipped, gradient of x" in mutants.equivalent
    assert "halved arguments, gradient of x" in mutants.equivalent


def test_a_missed_mutant_is_named():
    """With a tolerance of 1 % an error of a thousandth is missed."""
    mutants = check.mutants(jaxcnn.silu, X.astype(jnp.float64), rtol=1e-2)
    assert not mutants
    assert "one entry off by a thousandth, gradient of z" in mutants.missed
    assert "missed: one entry off by a thousandth, gradient of z" in str(mutants)


def test_mutants_of_a_wrong_rule():
    mutants = check.mutants(BAD, X, 1 + X)
    assert not mutants
    assert mutants.caught == ()
    assert str(mutants).startswith("the rule is wrong before it is broken\noutput: right")


def test_cotangent_is_not_an_array_of_the_caller():
    """With the numbers of `default_rng(0)` for x and dy alike, x dy is symmetric, and a transposition hides."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 50)))
    outer = with_rule(lambda x, w: x @ w, lambda x, w, dy: (dy @ w.T, (x.T @ dy).T))
    report = check.gradients(outer, x, jnp.eye(50))
    assert [c.name for c in report.comparisons if c.problem] == ["gradient of w"]
