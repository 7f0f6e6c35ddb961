"""`jaxcnn check`: the verdict as an exit code, and one line for whatever goes wrong."""

import json
import re
import signal
import subprocess
import sys

import pytest

from jaxcnn import cli

MODULE = """
import jax
import jax.numpy as jnp


def signed(sign):
    f = jax.custom_vjp(lambda x, w: jnp.sin(x) * w)
    fwd = lambda x, w: (jnp.sin(x) * w, (x, w))
    f.defvjp(fwd, lambda res, dy: (dy * jnp.cos(res[0]) * res[1], sign * dy * jnp.sin(res[0])))
    return f


good, bad = signed(1), signed(-1)
number = 3


class Net:
    good = staticmethod(good)


def rule_raises(res, dy):
    raise RuntimeError("only\\ntwo")


def with_rule(f, bwd):
    f = jax.custom_vjp(f)
    f.defvjp(lambda *args: (f.fun(*args), args), bwd)
    return f


raising = with_rule(jnp.sin, rule_raises)
undefined = with_rule(lambda x: x * jnp.nan, lambda res, dy: (dy,))
straight = with_rule(lambda x: jnp.round(x), lambda res, dy: (dy,))


def identity(x):
    return x


def shifted(x):
    return x + 1


def chosen(z, labels, key, scale, mode):
    assert (labels.dtype, scale, mode) == (jnp.int32, 0.5, ("SAME", None))
    x = jnp.abs(z)[labels] * scale
    return good(x, jax.random.normal(key, x.shape, x.dtype))


def arguments():
    kwargs = {"key": jax.random.key(0), "scale": 0.5, "mode": ("SAME", None)}
    return (jnp.arange(1.0, 6), jnp.arange(30, dtype="int32") % 5), kwargs


def a_list():
    return [jnp.ones(5)]


def raises(x=None):
    raise RuntimeError("no way\\nto do it")


def exits(x):
    raise SystemExit(0)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    (tmp_path / "rules_of_mine.py").write_text(MODULE)
    (tmp_path / "broken_of_mine.py").write_text("import not_there_at_all")
    (tmp_path / "exit_of_mine.py").write_text("raise SystemExit(0)")
    (tmp_path / "sleep_of_mine.py").write_text("print('importing', flush=True)\nimport time\ntime.sleep(60)")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("rules_of_mine", "broken_of_mine", "exit_of_mine"):
        sys.modules.pop(name, None)


def run(*arguments):
    try:
        return cli.main(["check", *arguments])
    except SystemExit as stop:
        return stop.code


TWO = ("--shape", "3,4", "--shape", "3,4")


@pytest.mark.parametrize(
    ("function", "options", "code"),
    [
        ("rules_of_mine:good", (), 0),
        ("rules_of_mine:Net.good", ("--dtype", "bfloat16", "--order", "2"), 0),
        ("rules_of_mine:bad", (), 1),
        ("jaxcnn:mean_squared_error", ("--dtype", "float64"), 0),
    ],
)
def test_verdict(folder, capsys, function, options, code):
    assert run(function, *TWO, *options) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    assert ("WRONG" in captured.out) == (code == 1)
    assert captured.out.count("gradient of") == (4 if "--order" in options else 2)


def test_the_wrong_argument_is_named(folder, capsys):
    assert run("rules_of_mine:bad", *TWO) == 1
    lines = capsys.readouterr().out.splitlines()
    assert re.match("gradient of w: WRONG: 12 of 12 entries; .* where: everywhere, the opposite sign", lines[2])
    assert lines[1].startswith("gradient of x: right")


ORDERED = ("--shape", "7", "--int", "30:5", "--key", "--static", "0.5", "--static", "('SAME', None)")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("chosen", *ORDERED, "--dtype", "complex64"), 0, r"gradient of z \(imaginary part\): right"),
        (("chosen", "--arguments", "rules_of_mine:arguments"), 0, "gradient of z: right"),
        (("straight", "--shape", "9", "--claims", "rules_of_mine:identity", "--argnums", "-1"), 0, "of x: right"),
        (("raising", "--shape", "9"), 1, "RuntimeError: only two"),
        (("bad", *TWO, "--argnums", "0", "--rtol", "1e-6", "--precision", "own"), 0, "of x: right; .* in float32"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_arguments_and_claims(folder, capsys, arguments, code, said):
    function, *options = arguments
    assert run(f"rules_of_mine:{function}", *options) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    assert re.search(said, captured.out)


def test_json_and_annotations(folder, capsys, monkeypatch):
    """The latter go to stderr: GitHub reads it as well."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(folder.parent))
    assert run("rules_of_mine:bad", *TWO, "--json") == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["verdict"] == "wrong"
    assert [row["verdict"] for row in found["comparisons"]] == ["right", "right", "wrong"]
    line = MODULE[: MODULE.index("f.defvjp(fwd")].count("\n") + 1
    place = f"file={folder.name}/rules_of_mine.py,line={line},title=custom_vjp of "
    assert captured.err.startswith(f"::error {place}")
    assert "::gradient of w: WRONG: 12 of 12 entries; worst at [" in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("identity", "no custom rule is on its way (output, gradient of x)"),
        ("undefined", "f is not finite in any entry (output); the gradient"),
    ],
)
def test_not_checked(folder, capsys, function, reason):
    assert run(f"rules_of_mine:{function}", "--shape", "9") == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("output: not checked: ")
    assert captured.err.startswith(f"jaxcnn check: rules_of_mine:{function} is not checked for float32 [9]: {reason}")
    assert captured.err.count("\n") == 1


def test_a_number(folder, capsys):
    assert run("jaxcnn:relu", "--shape", "()") == 0
    assert capsys.readouterr().out.startswith("output: right")


MADE = ["--arguments", "rules_of_mine:arguments"]
BAD = [
    (["rules_of_mine:good"], "give each argument, in their order, by --shape, --int, --key or --static, or all by"),
    (["rules_of_mine:good", *TWO, "--int", "3:0"], "argument --int: give sizes, and above which number none is, as in"),
    (["rules_of_mine:good", *TWO, "--static", "SAME"], "argument --static: give a value as Python writes it, as in"),
    (["rules_of_mine:good", *TWO, "--rtol", "0"], "argument --rtol: give a positive number, not '0'"),
    (["rules_of_mine:good", *TWO, "--zero", "x"], "argument --zero: give positions as in 0,2, not 'x'"),
    (["rules_of_mine:good", *TWO, "--argnums", "2"], "argument --argnums: must be positions among 2 arguments, got"),
    (["rules_of_mine:good", *TWO, "--claims", "rules_of_mine:no"], "module rules_of_mine has no no"),
    (["rules_of_mine:good", *TWO, *MADE], "argument --arguments: the function makes all of them; leave out"),
    (
        ["rules_of_mine:good", *MADE, "--dtype", "float16"],
        "argument --arguments: the function makes all of them; leave",
    ),
    (
        ["rules_of_mine:good", *MADE[:1], "rules_of_mine:a_list"],
        "argument --arguments: rules_of_mine:a_list must",
    ),
    (
        ["rules_of_mine:good", *MADE[:1], "rules_of_mine:raises"],
        "argument --arguments: rules_of_mine:raises raises",
    ),
    (["--shape", "2"], "the following arguments are required: MODULE:FUNCTION"),
    (["rules_of_mine", *TWO], "argument MODULE:FUNCTION: give package.module:function, not 'rules_of_mine'"),
    (["rules of mine:f", *TWO], "argument MODULE:FUNCTION: give package.module:function, not 'rules of mine:f'"),
    (["rules_of_mine:", *TWO], "argument MODULE:FUNCTION: give package.module:function, not 'rules_of_mine:'"),
    (["nowhere:f", *TWO], "module nowhere cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
    (["broken_of_mine:f", *TWO], "module broken_of_mine cannot be imported: ModuleNotFoundError: No module named"),
    (["exit_of_mine:f", *TWO], "module exit_of_mine cannot be imported: SystemExit: 0"),
    (["rules_of_mine:nope", *TWO], "module rules_of_mine has no nope"),
    (["rules_of_mine:number", *TWO], "rules_of_mine:number must be a function, got int"),
    (["rules_of_mine:good", "--shape", "3,x"], "argument --shape: give sizes as in 8,32,32,16, not '3,x'"),
    (["rules_of_mine:good", "--shape", "-3"], "argument --shape: give sizes as in 8,32,32,16, not '-3'"),
    (["rules_of_mine:good", "--shape", ""], "argument --shape: give sizes as in 8,32,32,16, not ''"),
    (["rules_of_mine:good", *TWO, "--dtype", "int8"], "argument --dtype: invalid choice: 'int8' (choose from float64,"),
    (["rules_of_mine:good", *TWO, "--order", "0"], "argument --order: invalid choice: 0 (choose from 1, 2, 3)"),
    (["rules_of_mine:good", *TWO, "--fast"], "unrecognized arguments: --fast"),
    (["rules_of_mine:raises", "--shape", "2"], "rules_of_mine:raises cannot be checked for float32 [2]: RuntimeError:"),
    (["rules_of_mine:exits", "--shape", "2"], "rules_of_mine:exits cannot be checked for float32 [2]: SystemExit: 0"),
    (["rules_of_mine:good", "--shape", "3,4"], "rules_of_mine:good cannot be checked for float32 [3, 4]: TypeError: "),
    (
        ["rules_of_mine:good", *TWO, *TWO],
        "rules_of_mine:good cannot be checked for float32 [3, 4], float32 [3, 4], f",
    ),
    (["jaxcnn:conv", "--shape", "2,8,8,4", "--shape", "3,3,5,6"], "jaxcnn:conv cannot be checked for float32 [2, 8"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_what_cannot_be_checked_is_said_in_one_line(folder, capsys, arguments, message):
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    said = re.sub(r"choose from .*\)", lambda choices: choices[0].replace("'", ""), captured.err)
    assert re.match(r"jaxcnn( check)?: " + re.escape(message), said)


def test_interrupt(folder):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # else a test in the background ignores it
    try:
        command = [sys.executable, "-m", "jaxcnn", "check", "sleep_of_mine:f", "--shape", "2"]
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "importing\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (process.returncode, err) == (130, "jaxcnn: interrupted\n")


@pytest.mark.parametrize("shape", ["1000000,1000000", "99999999999999999999", "0,4"])
def test_shapes_that_cannot_be_compared(folder, shape, capsys):
    assert run("rules_of_mine:good", "--shape", shape, "--shape", shape) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_report_that_nobody_reads(folder):
    command = [sys.executable, "-m", "jaxcnn", "check", "rules_of_mine:good", *TWO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
