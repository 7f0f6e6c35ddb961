"""What the docstrings and the README show works, as a user runs it: in float32, with JAX's defaults."""

import doctest
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import jaxcnn

ROOT = Path(__file__).parent.parent
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


QUICK = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "PYTHONWARNINGS": "error"}
READMES = [ROOT / "README.md", ROOT / "experiments" / "README.md", *sorted((ROOT / "jaxcnn").rglob("README.md"))]
PROGRAMS = """
import json, sys
for code in json.load(sys.stdin):
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})
"""


def blocks(readme, language):
    return re.findall(rf"```{language}\n(.*?)```", readme.read_text(), flags=re.DOTALL)


def name(readme):
    return str(readme.relative_to(ROOT))


@pytest.mark.parametrize("readme", [readme for readme in READMES if blocks(readme, "python")], ids=name)
def test_examples_of_a_readme(readme, tmp_path):
    """They run, each by itself, and print what the comments behind `print` say."""
    examples = blocks(readme, "python")
    environment = {**os.environ, **QUICK}
    options = {"capture_output": True, "text": True, "env": environment, "cwd": tmp_path}
    ran = subprocess.run([sys.executable, "-c", PROGRAMS], input=json.dumps(examples), check=False, **options)
    assert ran.returncode == 0, ran.stderr
    expected = re.findall(r"print\(.*\)  # (.*)", "\n".join(examples))
    assert [line for line in ran.stdout.splitlines() if line in expected] == expected
    assert "WRONG" not in ran.stdout


def test_the_script_of_a_whole_training(tmp_path):
    """With 600 drawn images in the place of Fashion-MNIST, and two epochs of a smaller network."""
    readme = (ROOT / "jaxcnn" / "train" / "README.md").read_text()
    scripts = dict(re.findall(r"```python (\w+\.py)\n(.*?)```", readme, flags=re.DOTALL))
    assert len(scripts["fashion.py"].splitlines()) <= 35
    assert len(scripts["predict.py"].splitlines()) <= 5
    smaller = {
        "55_000": "400",
        "30, nn.resnet_cifar(20)": "2, nn.plain_cnn(stem=(4, 5, 4, 2), stages=((4,),))",
    }
    for text, other in smaller.items():
        assert text in scripts["fashion.py"]
        scripts["fashion.py"] = scripts["fashion.py"].replace(text, other)
    environment = {**os.environ, **QUICK}
    for script in scripts.values():
        code = f"{DRAWN}{script}"
        options = {"capture_output": True, "text": True, "env": environment, "cwd": tmp_path}
        ran = subprocess.run([sys.executable, "-c", code], check=False, **options)
        assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(r"class \d 0\.\d+\n", ran.stdout)


DRAWN = """
import numpy as np
from jaxcnn import data

def drawn(name):
    assert name == "fashion_mnist"
    x = np.random.default_rng(0).integers(0, 256, (600, 28, 28, 1)).astype("uint8")
    y = np.arange(600, dtype="int32") % 10
    names = tuple(f"class {k}" for k in range(10))
    return data.Dataset(name, x[:500], y[:500], x[500:], y[500:], 10, class_names=names)

data.load = drawn
"""


def test_the_readme_shows_the_code_as_it_is():
    sources = [path.read_text() for path in (ROOT / "jaxcnn").rglob("*.py")]
    shown = blocks(ROOT / "README.md", "py")
    assert shown
    assert all(any(code in source for source in sources) for code in shown)


@pytest.mark.parametrize("readme", READMES, ids=name)
def test_links_lead_somewhere(readme):
    """To a file that exists, to a heading of it, and to the line where the function begins that has the name."""
    for text, link in re.findall(r"\[([^\]]+)\]\(([^)]+)\)", readme.read_text()):
        path, _, part = link.partition("#")
        target = (readme.parent / path).resolve() if path else readme
        assert target.exists(), link
        if re.fullmatch(r"L\d+", part):
            assert target.read_text().splitlines()[int(part[1:]) - 1].startswith(f"def {text.strip('`')}("), link
        elif part:
            headings = re.findall(r"^#+ (.*)", target.read_text(), flags=re.MULTILINE)
            assert part in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


@pytest.mark.parametrize("readme", READMES, ids=name)
def test_tests_that_are_named_exist(readme):
    for path, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", readme.read_text()):
        assert f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"
