"""Who may import whom, and nothing private of JAX."""

import ast
from pathlib import Path

import pytest

import jaxcnn

PACKAGE = Path(jaxcnn.__file__).parent
MAY_IMPORT = {
    "ops": {"ops"},
    "transforms": {"ops", "transforms"},
    "check": {"ops", "transforms", "check"},
    "nn": {"ops", "nn"},
    "data": {"ops", "data"},
    "train": {"ops", "transforms", "check", "nn", "train"},
    "cli": {"ops", "transforms", "check", "nn", "data", "train", "cli"},
    "__main__": {"cli"},
    "__init__": {"ops", "transforms", "check", "nn", "data", "train"},
}
CORE = {"jax", "numpy"}
EXTRAS = {"sklearn", "orbax", "safetensors", "tqdm", "matplotlib", "nibabel"}
FILES = sorted(PACKAGE.rglob("*.py"))


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


def test_the_bottom_imports_nothing_of_ours():
    names = [name for name, _ in imported(ast.parse((PACKAGE / "ops" / "shapes.py").read_text()))]
    assert names
    assert not [name for name in names if name.startswith("jaxcnn")]
