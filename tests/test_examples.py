"""What the docstrings and the README show works, as a user runs it: in float32, with JAX's defaults."""

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import jaxcnn

README = Path(__file__).parent.parent / "README.md"
MODULES = ["jaxcnn", *(module.name for module in pkgutil.walk_packages(jaxcnn.__path__, "jaxcnn."))]
DOCTESTS = [
    test
    for name in MODULES
    if not name.endswith("__main__")
    for test in doctest.DocTestFinder().find(importlib.import_module(name))
    if test.examples
]


@pytest.mark.parametrize("test", DOCTESTS, ids=lambda test: test.name)
def test_docstring(test):
    output = []
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        failed, attempted = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=output.append)
    assert attempted > 0
    assert failed == 0, "".join(output)


def test_every_public_function_has_an_example():
    public = {name for name, value in vars(jaxcnn).items() if callable(value) and not name.startswith("_")}
    shown = {test.name.rsplit(".", 1)[-1] for test in DOCTESTS}
    assert public <= shown


EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def run(code, folder):
    """What the code prints, pasted into a file and run, in a new process."""
    script = folder / "example.py"
    script.write_text(code)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "error"}
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_first_example_of_the_readme(tmp_path):
    assert len(EXAMPLES[0].strip().splitlines()) <= 20
    printed = run(EXAMPLES[0], tmp_path)
    assert "right" in printed
    assert "WRONG" not in printed


@pytest.mark.parametrize("code", EXAMPLES[1:], ids=lambda code: code.split()[1])
def test_other_examples_of_the_readme(code, tmp_path):
    """They print what the comments behind `print` say."""
    assert run(code, tmp_path).splitlines() == re.findall(r"print\(.*\)  # (.*)", code)


def test_tests_named_in_the_readme_exist():
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", README.read_text()))
    assert named
    for path, test in named:
        assert f"def {test}(" in (README.parent / path).read_text(), f"{path}::{test}"
