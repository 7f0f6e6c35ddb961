"""The pytest plugin, in a suite of its own."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rules import with_rule

from jaxcnn.check.recorded import Outcome, Row, merged
from jaxcnn.check.recording import Recorder

pytest_plugins = ("pytester", "pytest_jaxcnn")

SUITE = """
import functools
import sys

assert "jax" not in sys.modules  # pytest loads the plugin for every suite

import jax
import jax.numpy as jnp

X = jnp.linspace(0.5, 2.0, 6).reshape(2, 3)


def with_sign(sign):
    @jax.custom_vjp
    def product(x, w):
        return jnp.sin(x) * w

    def bwd(residuals, dy):
        x, w = residuals
        return dy * w * jnp.cos(x), sign * dy * jnp.sin(x)

    product.defvjp(lambda x, w: (product(x, w), (x, w)), bwd)
    return product


right, wrong = with_sign(1), with_sign(-1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def power(x, n):
    return x**n


power.defjvp(lambda n, x, dx: (x[0] ** n, n * x[0] ** (n - 1) * dx[0]))


@jax.custom_vjp
def noisy(x, key):
    return x * jax.random.normal(key, x.shape)


noisy.defvjp(lambda x, key: (noisy(x, key), key), lambda key, dy: (dy * jax.random.normal(key, dy.shape), None))


@jax.custom_gradient
def exponential(x):
    return jnp.exp(x), lambda dy: dy * jnp.exp(x)


def test_values():
    right(X, X)


def test_grad():
    jax.grad(lambda x: wrong(x, X).sum())(X)


def test_jit_as_without_the_plugin():
    jax.jit(power, static_argnums=1)(X, 3)
    assert "callback" not in jax.jit(power, static_argnums=1).lower(X, 3).as_text()


def test_vmap():
    jax.vmap(right)(X, X)


def test_scan():
    jax.lax.scan(lambda carry, x: (carry, exponential(x)), 0.0, X)


def test_shard_map():
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("i")
    jax.shard_map(lambda x: power(x[:, :2], 2), mesh=mesh, in_specs=spec, out_specs=spec)(X)


def test_key():
    jax.jit(noisy)(X, jax.random.key(1))


def test_beyond_the_limit():
    jax.jit(power, static_argnums=1)(X, 4)


def test_rule_of_jax():
    jax.nn.relu(X)


@jax.custom_vjp
def untold(x):
    return 2 * x


untold.defvjp(lambda x: (2 * x, None), lambda _, dy: (3 * dy,))


def test_excluded():
    untold(X)


def test_lowered_only():
    jax.jit(noisy).lower(X[0], jax.random.key(1))
"""


def test_every_rule_of_a_suite_is_checked(pytester, monkeypatch):
    """In a worker of pytest-xdist, on GitHub: what it found comes to the process that writes, and annotates."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    pytester.makepyfile(test_suite=SUITE)
    options = ("--vjp=all,-untold", "--vjp-limit=2", "--vjp-report=rules.json")
    result = pytester.runpytest_subprocess("-p", "pytest_jaxcnn", "-n", "1", "-q", *options)
    result.assert_outcomes(passed=11)
    assert result.ret == 1  # a rule is wrong
    line = SUITE[: SUITE.index("def bwd")].count("\n")
    result.stdout.fnmatch_lines(
        [
            f"WRONG * product (test_suite.py:{line}) * float32[[]2,3], float32[[]2,3] * test_suite.py::test_grad",
            f"test_suite.py:{line}: custom_vjp of product is WRONG for float32[[]2,3], float32[[]2,3]",
            "*gradient of w: WRONG: 6 of 6 entries; *",
            "not checked: noisy (test_suite.py:*): it was traced, but never computed, *",
            "5 custom rules at 8 signatures: 1 wrong, 1 not checked, 6 right; *",
            "left out: 1 signature beyond --vjp-limit, 2 rules that --vjp does not ask for",
            f"::error file=test_suite.py,line={line},title=custom_vjp of product is wrong::"
            "for float32[[]2,3], float32[[]2,3]%0Agradient of w: WRONG: 6 of 6 entries; *",
        ]
    )
    found = json.loads((pytester.path / "rules.json").read_text())
    assert found["verdict"] == "wrong"
    rows = {(row["test"].partition("::")[2], row["rule"], row["signature"]): row["verdict"] for row in found["rows"]}
    assert rows == {
        ("test_values", "product", "float32[2,3], float32[2,3]"): "right",
        ("test_grad", "product", "float32[2,3], float32[2,3]"): "wrong",
        ("test_jit_as_without_the_plugin", "power", "float32[2,3], 3"): "right",
        ("test_vmap", "product", "float32[3], float32[3]"): "right",
        ("test_scan", "exponential", "float32[3]"): "right",
        ("test_shard_map", "power", "float32[2,2], 2"): "right",
        ("test_key", "noisy", "float32[2,3], key<fry>[]"): "right",
        ("test_lowered_only", "noisy", "float32[3], key<fry>[]"): "not checked",
    }


def test_recorder():
    """Arrays are kept as they were, large ones are not, and JAX is left as it was."""
    f = with_rule(jnp.sin, lambda x, dy: (dy * jnp.cos(x),))
    x, before = np.ones(3), jax.custom_vjp.__call__
    recorder = Recorder(["rule.py:sin"], limit=1)
    recorder.start()
    try:
        f(jnp.zeros(1 << 20))
        f(x)
        x[:] = 0
        f(jnp.zeros(4))  # beyond the limit of one
        jax.eval_shape(f, jnp.zeros(5))
    finally:
        recorder.stop()
    assert jax.custom_vjp.__call__ is before
    f(x)
    large, kept, *_ = recorder.records.values()
    assert kept.call.args()[0].tolist() == [1, 1, 1]
    assert (kept.count, large.call, large.missing) == (
        1,
        None,
        "8 MiB of arguments; no more than 4 MiB of a call are kept",
    )
    assert recorder.chosen() == [kept]
    assert {signature for _, signature in recorder.left_out} == {"float64[1048576]", "float64[4]", "float64[5]"}


ROW = Row("f", "/a/rules.py", 7, "custom_vjp", "f@rules.py:7", "float32[2]", "right", (), 3, "test_a")


def test_outcomes_of_workers_are_joined():
    """Of two verdicts on the same the worse stays; what one left out and another checked is not left out."""
    bad = replace(ROW, verdict="wrong", said=("gradient of <x>: WRONG",), calls=2, test="test_b")
    parts = [
        Outcome([ROW], run_again=1),
        Outcome([bad], [["f@rules.py:7", "float32[2]"], ["g", "int32[]"]], run_again=2),
    ]
    total = merged([Outcome.from_json(json.dumps(part.to_json())) for part in parts])
    assert total.rows == [replace(bad, calls=5, test="test_a")]
    assert (total.left_out, total.run_again, total.verdict) == ([["g", "int32[]"]], 3, "wrong")


def test_pages_escape(tmp_path):
    total = Outcome([replace(ROW, verdict="wrong", said=("gradient of <x>: WRONG",))])
    total.write(tmp_path / "rules.html", tmp_path)
    page = (tmp_path / "rules.html").read_text()
    assert "<td>f (/a/rules.py:7)</td>" in page
    assert "gradient of &lt;x&gt;: WRONG" in page


def test_fixture(check_vjp):
    x = jnp.linspace(0.0, 2.0, 5)
    good, bad = (with_rule(jnp.sin, lambda x, dy, sign=sign: (sign * dy * jnp.cos(x),)) for sign in (1, -1))
    assert check_vjp(good, x)
    with pytest.raises(pytest.fail.Exception, match=r"wrong\noutput: right;(.*\n)*gradient of .*: WRONG: 5 of 5"):
        check_vjp(bad, x)


def test_a_failed_fixture_annotates_on_github(pytester, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    before = SUITE.partition("right, wrong =")[0].replace('assert "jax" not', "#")
    pytester.makepyfile(test_mine=f"{before}\n\ndef test_wrong(check_vjp):\n    check_vjp(with_sign(-1), X, X)\n")
    result = pytester.runpytest_inprocess("-p", "pytest_jaxcnn")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["::error file=test_mine.py,line=17,title=custom_vjp of product is wrong::gradient of w:*"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vjp=all", "--vjp-report=rules.txt"], "--vjp-report must be a .json or .html file, got 'rules.txt'"),
        (["--vjp=all", "--vjp-report=nowhere/rules.json"], "--vjp-report: there is no folder nowhere"),
        (["--vjp-report=rules.json"], "--vjp-report needs --vjp, as in --vjp=all"),
        (["--vjp=all", "--vjp-limit=0"], "--vjp-limit must be at least 1, got 0"),
        (["--vjp=all,"], "--vjp must be all, or parts of names with commas between, got 'all,'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_followed_end_in_one_line(pytester, options, message):
    result = pytester.runpytest_inprocess("-p", "pytest_jaxcnn", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
