"""`jaxcnn check`: the verdict as an exit code, and one line for whatever goes wrong."""

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


def raises(x):
    raise RuntimeError("no way\\nto do it")


def exits(x):
    raise SystemExit(0)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
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


def test_a_number(folder, capsys):
    assert run("jaxcnn:relu", "--shape", "()") == 0
    assert capsys.readouterr().out.startswith("output: right")


BAD = [
    (["rules_of_mine:good"], "the following arguments are required: --shape"),
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
    (["rules_of_mine:good", *TWO, *TWO], "rules_of_mine:good cannot be checked for float32 [3, 4], [3, 4], [3, 4],"),
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
