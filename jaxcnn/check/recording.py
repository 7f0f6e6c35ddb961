"""The custom rules that a program reaches, with the values that it calls them with."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_OF_JAX = str(Path(jax.__file__).parent)
# What is kept of the values that rules are called with, in bytes, of one call and of all. Both are chosen: a check of
# more takes minutes.
_BYTES_OF_A_CALL, _BYTES_OF_ALL = 4 << 20, 32 << 20
_LONGEST_TEXT = 200  # of a static value
_DEPTH_OF_CLOSURES = 3  # how far functions that a function closes over tell two rules apart


@dataclass(frozen=True)
class RecordedRule:
    """Where a custom rule is: the function that it belongs to, by name, file and line.

    Attributes:
        kind: "custom_vjp" or "custom_jvp".
        identity: what tells it from other rules of the same function.
    """

    name: str
    file: str
    line: int
    kind: str
    identity: str

    @property
    def of_jax(self) -> bool:
        return self.file.startswith(_OF_JAX)


@dataclass(frozen=True)
class Call:
    """A rule with the values of a call.

    Attributes:
        rule: the function that was called.
        leaves: copies of the leaves of its arguments.
        tree: their structure.
        keys: which leaves are the data of random keys, with the implementation of the keys.
        x64: whether JAX had 64-bit numbers.
    """

    rule: Any
    leaves: tuple[Any, ...]
    tree: Any
    keys: dict[int, Any]
    x64: bool

    def args(self) -> tuple[Any, ...]:
        leaves = [jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in self.leaves]
        for i, implementation in self.keys.items():
            leaves[i] = jax.random.wrap_key_data(leaves[i], impl=implementation)
        return jax.tree.unflatten(self.tree, leaves)

    def argnums(self) -> list[int]:
        """The arguments that have a gradient."""
        static = getattr(self.rule, "nondiff_argnums", ())
        inexact = [any(map(_is_inexact, jax.tree.leaves(arg))) for arg in self.args()]
        return [i for i, found in enumerate(inexact) if found and i not in static]


@dataclass
class Record:
    """A rule, with a signature that it was called with.

    Attributes:
        rule: where the rule is.
        signature: dtypes, shapes and static values of the arguments.
        test: the first test that called it.
        count: how often it was called or traced.
        traced_in: the tests in which it was traced, without values.
        call: the first call with values, if there was one.
        missing: why there was none.
    """

    rule: RecordedRule
    signature: str
    test: str
    count: int = 0
    traced_in: set[str] = field(default_factory=set)
    call: Call | None = None
    missing: str = ""


class Recorder:
    """Records the calls of `jax.custom_vjp` and `jax.custom_jvp` functions, from `start` to `stop`.

    Traced programs stay as they are. A call whose arguments are traced has no values: its record names the test, and
    with `capture` on, when that test runs once more, a callback in the traced program takes them.

    Args:
        wanted: "all" for all rules but those in JAX's own files; otherwise a part of the name or file of a rule. The
            rules that one of them fits are recorded, but for those that fit a part with "-" in front.
        limit: how many signatures of one rule are recorded.
    """

    def __init__(self, wanted: Sequence[str], limit: int) -> None:
        self.wanted, self.limit = tuple(wanted), limit
        self.records: dict[tuple[str, str], Record] = {}
        self.left_out: dict[tuple[str, str], int] = {}
        self.passed_over: set[str] = set()
        self.failures: dict[str, str] = {}
        self.test = ""
        self.capture = False
        self._bytes = 0
        self._originals: dict[type, Callable[..., Any]] = {}

    def start(self) -> None:
        for kind in (jax.custom_vjp, jax.custom_jvp):
            self._originals[kind] = kind.__call__
            kind.__call__ = self._recorded(kind.__call__)

    def stop(self) -> None:
        for kind, original in self._originals.items():
            kind.__call__ = original
        self._originals = {}

    def _recorded(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(rule: Any, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            try:
                self._see(rule, args, kwargs)
            except Exception as error:  # whatever it is, the suite goes on as if it were not recorded
                self.failures[_name(rule)] = f"{type(error).__name__}: {error}"
            return original(rule, *args, **kwargs)

        return call

    def _see(self, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        leaks = jax.config.jax_check_tracer_leaks  # pyright: ignore[reportAttributeAccessIssue]
        if leaks:  # a record would be taken for one
            return
        where = located(rule)
        if not self._is_wanted(where):
            self.passed_over.add(where.identity)
            return
        bound = inspect.signature(rule.fun).bind(*args, **kwargs)  # as JAX does: a rule has positional arguments only
        bound.apply_defaults()
        args = bound.args
        key = (where.identity, signature(rule, args))
        if key not in self.records:
            if sum(identity == where.identity for identity, _ in self.records) >= self.limit:
                self.left_out[key] = self.left_out.get(key, 0) + 1
                return
            self.records[key] = Record(where, key[1], self.test)
        record = self.records[key]
        record.count += not self.capture
        if record.call is None:
            self._take(record, rule, args)

    def _is_wanted(self, rule: RecordedRule) -> bool:
        place = f"{rule.file}:{rule.name}"
        if any(part[0] == "-" and part[1:] in place for part in self.wanted):
            return False
        return any(part in place or (part == "all" and not rule.of_jax) for part in self.wanted)

    def _take(self, record: Record, rule: Any, args: tuple[Any, ...]) -> None:
        """Keeps the values of a call, now or, where they are traced, when the traced program runs."""
        leaves, tree = jax.tree.flatten(args)
        leaves = [_concrete(leaf) for leaf in leaves]
        traced = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tracer)]
        if traced and not self.capture:
            record.traced_in.add(self.test)
            return
        keys = {i: jax.random.key_impl(leaf) for i, leaf in enumerate(leaves) if _is_key(leaf)}
        leaves = [jax.random.key_data(leaf) if i in keys else leaf for i, leaf in enumerate(leaves)]
        x64 = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]

        def keep(*values: Any) -> None:
            known = dict(enumerate(leaves)) | dict(zip(traced, values, strict=True))
            if record.call is None and self._fits(record, known.values()):
                copies = tuple(_copy(leaf) for leaf in known.values())
                record.call = Call(rule, copies, tree, keys, x64)

        if traced:
            jax.debug.callback(keep, *[leaves[i] for i in traced])
        else:
            keep()

    def _fits(self, record: Record, leaves: Iterable[Any]) -> bool:
        """Whether there is room for these arrays; the record says why not."""
        size = sum(getattr(leaf, "nbytes", 0) for leaf in leaves)
        if size > _BYTES_OF_A_CALL:
            record.missing = f"{size >> 20} MiB of arguments, more than {_BYTES_OF_A_CALL >> 20}, are not kept"
        elif self._bytes + size > _BYTES_OF_ALL:
            record.missing = f"no more than {_BYTES_OF_ALL >> 20} MiB of arguments are kept for all rules together"
        else:
            self._bytes += size
            return True
        return False


def located(rule: Any) -> RecordedRule:
    """Where a custom rule is."""
    function = _original(rule.fun)
    code = getattr(function, "__code__", None)
    file, line = (code.co_filename, code.co_firstlineno) if code else ("", 0)
    kind = "custom_vjp" if isinstance(rule, jax.custom_vjp) else "custom_jvp"
    parts = [rule.fun, *(getattr(rule, part, None) for part in ("fwd", "bwd", "jvp"))]
    return RecordedRule(_name(rule, function), file, line, kind, " ".join([kind, *map(_text, parts)]))


def signature(rule: Any, args: tuple[Any, ...]) -> str:
    """The dtypes and shapes of arguments, and what is static among them."""
    static = getattr(rule, "nondiff_argnums", ())
    return ", ".join(_text(arg) if i in static else _structure(arg) for i, arg in enumerate(args))


def _structure(arg: Any) -> str:
    leaves, tree = jax.tree.flatten(arg)
    texts = iter([type(leaf).__name__ if isinstance(leaf, (float, complex)) else _text(leaf) for leaf in leaves])
    structure = str(tree).removeprefix("PyTreeDef(").removesuffix(")")
    return re.sub(r"\*", lambda _: next(texts, "*"), structure)


def _text(value: Any, depth: int = _DEPTH_OF_CLOSURES) -> str:
    """A static value in words that tell it from others: a function by its place and by what it closes over."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(_text(v, depth) for v in value)})"
    function = _original(value)
    code = getattr(function, "__code__", None)
    if code is None:
        text = repr(value) if getattr(value, "__hash__", None) else ""
        return text if 0 < len(text) <= _LONGEST_TEXT and " at 0x" not in text else type(value).__name__
    place = f"{code.co_name}@{code.co_filename}:{code.co_firstlineno}"
    closure = [_text(cell, depth - 1) for cell in _closure(function)] if depth else []
    return f"{place}({', '.join(closure)})" if closure else place


def _original(function: Any) -> Any:
    """The function inside partials, wrappers and methods, and that which `jax.custom_gradient` wraps."""
    while True:
        inner = next((f for name in ("__wrapped__", "func", "__func__") if (f := getattr(function, name, None))), None)
        if inner is None:
            break
        function = inner
    code = getattr(function, "__code__", None)
    if code is not None and code.co_filename.startswith(_OF_JAX):
        others = [cell for cell in _closure(function) if not _text_file(cell).startswith(_OF_JAX) and callable(cell)]
        return others[0] if others and hasattr(others[0], "__code__") else function
    return function


def _closure(function: Any) -> list[Any]:
    cells = getattr(function, "__closure__", None) or ()
    values = []
    for cell in cells:
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    return values


def _text_file(value: Any) -> str:
    return getattr(getattr(value, "__code__", None), "co_filename", "")


def _name(*functions: Any) -> str:
    """The name of the last that has one."""
    names = [name for f in functions if (name := getattr(f, "__name__", None))]
    return names[-1] if names else type(functions[0]).__name__


def _concrete(leaf: Any) -> Any:
    """The value of a tracer that has one, as under `jax.grad` without `jax.jit`; the leaf itself otherwise."""
    if not isinstance(leaf, Tracer):
        return leaf
    value = getattr(leaf, "to_concrete_value", lambda: None)()
    return leaf if value is None else value


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_inexact(leaf: Any) -> bool:
    return not _is_key(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _copy(leaf: Any) -> Any:
    """The array as it is now: those of NumPy may change, those of JAX may be donated."""
    return np.array(jax.device_get(leaf)) if isinstance(leaf, (jax.Array, np.ndarray, np.generic)) else leaf
