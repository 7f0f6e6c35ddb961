"""Tests that compile for accelerators, as users compile. They need `pip install 'jaxcnn[accelerators]'`."""

from pathlib import Path

import jax
import pytest
from accelerators.targets import TARGETS, has_compiler

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    missing = [target for target in TARGETS if not has_compiler(target)]
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.optimized)
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"no compiler for {', '.join(missing)}"))


@pytest.fixture(autouse=True)
def _float32():
    """Programs as users have them: without float64."""
    with jax.enable_x64(False):
        yield
