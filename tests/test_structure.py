"""Who may import whom, nothing private of JAX, and what every public docstring says."""

import ast
import inspect
import re
import sys
import tomllib
from pathlib import Path

import pytest

import jaxcnn

PACKAGE = Path(jaxcnn.__file__).parent
ROOT = Path(__file__).parent.parent
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))
MAY_IMPORT = {
    "contract": {"contract"},
    "kernels": {"contract", "kernels"},
    "ops": {"contract", "kernels", "ops"},
    "transforms": {"contract", "ops", "transforms"},
    "check": {"contract", "ops", "transforms", "check"},
    "nn": {"contract", "ops", "nn"},
    "data": {"contract", "data"},
    "train": {"contract", "ops", "transforms", "check", "nn", "data", "train"},
    "cli": {"contract", "ops", "transforms", "check", "nn", "data", "train", "cli"},
    "__main__": {"cli"},
    "__init__": {"ops", "transforms", "check", "nn", "data", "train"},
}
CORE = {"jax", "numpy", "optax"}
EXTRAS = {
    "sklearn": "scikit-learn",
    "scipy": "scipy",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "PIL": "pillow",
    "nibabel": "nibabel",
}
# The plugin of pytest is a module of its own: importing it brings no JAX.
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "pytest_plugin")


def imported(tree):
    """Every module that is imported, and whether that is inside a function."""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in inside


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name, in_function in imported(ast.parse(path.read_text())):
        top, *below = name.split(".")
        if top == "jaxcnn":
            assert below[0] in MAY_IMPORT[part], f"{part} imports {name}"
        elif top == "optax":
            assert part == "train", f"only train imports optax, not {part}"
        elif top in EXTRAS:
            assert in_function, f"{name} comes with an extra: import it inside the function that needs it"
        assert not name.startswith(("jax._src", "jax.interpreters")), f"{name} is private"


def third_party(paths):
    """The packages of others that files import, inside functions as well."""
    names = {name.partition(".")[0] for path in paths for name, _ in imported(ast.parse(path.read_text()))}
    ours = {"jaxcnn", *(path.stem for path in (ROOT / "tests").rglob("*.py")), *(path.stem for path in EXPERIMENTS)}
    return names - ours - {"benchmark", "rules"} - sys.stdlib_module_names


def test_extras_hold_what_is_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert third_party(FILES) == CORE | EXTRAS.keys()
    assert sorted(extras["train"]) == sorted(EXTRAS.values())
    assert {re.split("[><=]", name)[0] for name in project["dependencies"]} == CORE | {"jaxlib"}
    third_party_alone = {"pytest-xdist", "matplotlib"}  # pytest's, and the chart's of the benchmark that a test runs
    imported_by_name = {name for name in extras["test"] if not name.startswith("jaxcnn[")} - third_party_alone
    assert third_party((ROOT / "tests").rglob("*.py")) - CORE - EXTRAS.keys() == imported_by_name
    assert third_party(EXPERIMENTS) - CORE - EXTRAS.keys() == set(extras["bench"])


def test_tests_mirror_the_package():
    """Each folder has tests of the same name, and each folder of tests has what it tests."""
    tests = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    packages = {path.parent.relative_to(PACKAGE) for path in FILES}
    assert tests - packages == {Path("accelerators"), Path("experiments"), Path("check/pytest_plugin")}
    assert packages - tests == {Path("kernels/correlation"), Path("nn/models")}  # tested with the folder around them


def test_kernels_know_no_rules():
    """What computes a formula fast is no formula: its gradient is written where it is used."""
    for path in (PACKAGE / "kernels").rglob("*.py"):
        assert not re.search(r"custom_vjp|custom_rule", path.read_text()), path


# Part of what these do, and what they keep, is in the dtype of the arguments.
PARTLY_WIDE = {"filter_normalization", "mixed_pooling", "padding", "stochastic_pooling"}


def test_rules_know_no_meshes_and_no_dtypes():
    """Where sums are wide, and where arrays lie, is said once: in the contract, and in kernels."""
    for path in (PACKAGE / "ops").rglob("*.py"):
        assert not re.search(r"contract\.sharding", path.read_text()), path
        assert ("contract.precision" in path.read_text()) == (path.stem in PARTLY_WIDE), path


PUBLIC = [
    (module, name)
    for module in (jaxcnn, jaxcnn.nn, jaxcnn.train, jaxcnn.data, jaxcnn.data.augment, jaxcnn.check)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name)) and getattr(module, name).__module__.startswith("jaxcnn")
]


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda value: getattr(value, "__name__", value))
def test_a_public_docstring_has_all_sections(module, name):
    function = getattr(module, name)
    parameters, returns = inspect.signature(function).parameters, inspect.signature(function).return_annotation
    sections = dict(
        re.findall(r"^(\w[\w, ]*):(.*?)(?=^\w|\Z)", inspect.getdoc(function), flags=re.DOTALL | re.MULTILINE)
    )
    expected = {"Raises"} | ({"Args"} if parameters else set()) | (set() if returns in (None, "None") else {"Returns"})
    if function.__module__.startswith("jaxcnn.ops."):
        expected |= {"Gradient", "Source"}
    assert expected <= sections.keys()
    assert [argument for argument in parameters if not re.search(rf"\b{argument}\b", sections["Args"])] == []
