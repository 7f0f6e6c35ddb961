"""Tests run in float64 and turn silent conversions into errors: warnings, dtype promotion and rank broadcasting.

Most of the time goes into compiling, so most tests leave XLA's optimizations out. Those that are marked `optimized`
compile as users do, and so do processes that a test starts, but for those of the experiments.
"""

import functools
import gc
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def _as_users_compile(request):
    optimized = request.node.get_closest_marker("optimized") is not None
    jax.config.update("jax_disable_most_optimizations", not optimized)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@functools.cache
def _programs():
    """All that jaxcnn jits when it is imported."""
    jitted = type(jax.jit(lambda: None))
    return [o for o in gc.get_objects() if type(o) is jitted and o.__module__.startswith("jaxcnn.")]


def pytest_collection_finish():
    """JAX's caches keep millions of objects. `_programs` is to look through them once, before there are many, and full
    collections of garbage, which do so each time, are to be rare."""
    _programs()
    gc.set_threshold(10_000, 20, 100)


@pytest.fixture
def patch(monkeypatch):
    """`monkeypatch.setattr` for a part of our ops, of which JAX keeps what it traced before."""

    def forget():
        for program in _programs():
            program.clear_cache()

    def patched(where, name, value):
        monkeypatch.setattr(where, name, value)
        forget()

    yield patched
    forget()
