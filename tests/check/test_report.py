"""What a report says and shows, and what `check.mutants` says."""

import re
import subprocess
import sys

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

X = jnp.asarray(np.random.default_rng(7).normal(size=(40, 30)), jnp.float32)
BAD = with_rule(lambda x, w: jnp.sin(x) * w, lambda x, w, dy: (dy * w * jnp.cos(x), -dy * jnp.sin(x)))


def test_one_line_for_each_output_and_argument():
    lines = str(check.gradients(BAD, X, 1 + X)).splitlines()
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


def test_table():
    table = check.gradients(BAD, X, 1 + X).table()
    lines = str(table).splitlines()
    assert lines[0] == "|  | verdict | where | worst | would have seen |"
    assert lines[4].startswith(
        "| gradient of w | WRONG: 1200 of 1200 entries | everywhere, the opposite sign | worst at"
    )
    shown = table._repr_html_()
    assert shown.count("<tr>") == 4
    assert "<td>WRONG: 1200 of 1200 entries</td>" in shown
    assert table._repr_markdown_() == str(table)


def test_a_name_with_html_in_it_is_escaped():
    table = check.gradients(lambda d: jnp.sin(d["<b>|"]), {"<b>|": X}).table()
    assert "&lt;b&gt;" in table._repr_html_()
    assert "<b>" not in table._repr_html_()
    assert str(table).splitlines()[3].count("|") - str(table).splitlines()[3].count(r"\|") == 6


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
