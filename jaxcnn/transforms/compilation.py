"""`jax.jit` with the options of the compiler that make a training step fast, where the compiler knows them.

On a CPU a compiled function takes the memory for all its temporary arrays at once, and gives it back at the end. The C
library keeps pieces of up to 32 MiB for the next call. A larger piece comes from the operating system each time, which
zeroes every page at its first use: for a training step that is up to a third of its time. XLA can be told to take
several smaller pieces. For an array that is larger than a piece it writes a warning, so `jit` then leaves the option
out.
"""

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxcnn.contract import arguments
from jaxcnn.transforms.jaxprs import every_equation

_OPTION = "xla_multiheap_size_constraint_per_heap"
_USUAL, _LARGEST = 16 << 20, 32 << 20  # bytes of a piece; of up to _LARGEST the C library keeps it
_NO_TRACE = core.get_opaque_trace_state(convention="flax")  # the state where nothing is being traced


def jit(f: Callable[..., Any] | None = None, **options: Any) -> Any:
    """f, compiled by `jax.jit` with the options that are measured best for the platform.

    What f computes, and its gradient, stay the same. On a CPU temporary arrays lie in pieces of 16 to 32 MiB, if no
    array is larger than 25 MiB. With a larger array, on another platform, or while another function is being traced,
    this is `jax.jit(f, **options)`. A compiler is given no option that it does not know. The shapes, dtypes and devices
    of the arguments decide, in a call as in `lower` and `trace`.

    Args:
        f: a function that `jax.jit` takes; without it, `jit` is a decorator with options.
        **options: those of `jax.jit`. `compiler_options` are added to ours, and go before them.

    Returns:
        A function like that of `jax.jit`, with its `lower`, `trace`, `eval_shape` and `clear_cache`.

    Raises:
        TypeError: f is no function, or an option is unknown to `jax.jit`.
        ValueError: from the call, if an argument was donated to a call before.

    Source: ours; the time was found by counting the page faults of a training step.

    >>> step = jit(lambda w, dw: w - 0.1 * dw, donate_argnums=0)
    >>> step(jnp.ones(2), jnp.ones(2))
    Array([0.9, 0.9], dtype=float32)
    """
    if f is None:
        return functools.partial(jit, **options)
    return _Jitted(f, options)


class _Jitted:
    """f compiled by `jax.jit` once for each size of the pieces; each call chooses one by its arguments."""

    def __init__(self, f, options):
        functools.update_wrapper(self, f, updated=())
        self._f, self._options, self._plain = f, options, jax.jit(f, **options)
        self._jitted: dict[int | None, Any] = {None: self._plain}  # for each size of the pieces
        self._sizes: dict[Any, int | None] = {}  # for each signature

    def __call__(self, *args, **kwargs):
        return self._chosen(args, kwargs)(*args, **kwargs)

    def __get__(self, instance, owner=None):
        return self if instance is None else types.MethodType(self, instance)

    def __reduce__(self):
        return _Jitted, (self._f, self._options)

    def lower(self, *args, **kwargs):
        return self._chosen(args, kwargs).lower(*args, **kwargs)

    def trace(self, *args, **kwargs):
        return self._chosen(args, kwargs).trace(*args, **kwargs)

    def eval_shape(self, *args, **kwargs):
        return self._plain.eval_shape(*args, **kwargs)

    def clear_cache(self):
        for jitted in self._jitted.values():
            jitted.clear_cache()

    def _chosen(self, args, kwargs):
        if core.get_opaque_trace_state(convention="flax") != _NO_TRACE:
            return self._plain  # JAX takes options for the outermost function only
        if jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
            return self._plain
        leaves, structure = jax.tree.flatten((args, kwargs))
        if any(map(arguments.is_used_up, leaves)):
            self._tell_used_up(args, kwargs)
        platform = _platform(leaves)
        signature = structure, platform, tuple(map(_kind, leaves))
        if signature not in self._sizes:
            self._sizes[signature] = self._size_of_pieces(args, kwargs) if platform == "cpu" else None
        size = self._sizes[signature]
        if size not in self._jitted:
            theirs = self._options.get("compiler_options") or {}
            options = {**self._options, "compiler_options": {_OPTION: size, **theirs}}
            self._jitted[size] = jax.jit(self._f, **options)
        return self._jitted[size]

    def _tell_used_up(self, args, kwargs):
        """ValueError that names the argument that was donated before; JAX's own error would not name it."""
        for argument, value in inspect.signature(self._f).bind(*args, **kwargs).arguments.items():
            arguments.not_used_up(self._f.__name__, argument, value)

    def _size_of_pieces(self, args, kwargs):
        if not _is_known(_OPTION):
            return None
        jaxpr = self._plain.trace(*args, **kwargs).jaxpr.jaxpr
        # XLA makes padded and upsampled arrays, a little larger than those that f names: a quarter is allowed for.
        largest = max((_bytes(var.aval) for eqn in every_equation(jaxpr) for var in eqn.outvars), default=0) * 5 // 4
        return max(largest, _USUAL) if largest <= _LARGEST else None


def _kind(leaf):
    """The shape and dtype of an array, the type of a number, and any other argument itself: it may be static."""
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return leaf.shape, leaf.dtype
    is_number = isinstance(leaf, complex | float | int) or type(leaf).__hash__ is None
    return type(leaf) if is_number else leaf


def _platform(leaves):
    """The platform on which arguments lie, or on which JAX would put them; None for an abstract mesh."""
    shardings = (getattr(leaf, "sharding", None) for leaf in leaves)
    sharding = next((one for one in shardings if isinstance(one, jax.sharding.Sharding)), None)
    if isinstance(getattr(sharding, "mesh", None), jax.sharding.AbstractMesh):
        return None
    devices = jnp.zeros(()).devices() if sharding is None else sharding.device_set
    return next(iter(devices)).platform


@functools.cache
def _is_known(option):
    """Whether the installed XLA has this option."""
    try:
        jax.jit(lambda: 0, compiler_options={option: _USUAL}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _bytes(aval):
    """The bytes of an array as XLA computes with it on a CPU: half precision takes as many as float32."""
    if not hasattr(aval, "dtype"):
        return 0
    if not all(isinstance(n, int) for n in aval.shape):  # symbolic
        return 2 * _LARGEST
    return aval.size * max(aval.dtype.itemsize, 4 if jnp.issubdtype(aval.dtype, jnp.floating) else 1)
