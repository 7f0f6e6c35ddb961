"""The custom rules that a program reaches, with the values that it calls them with."""

import contextlib
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxcnn.check.identity import RecordedRule, located, name_of, signature

# What is kept of the values that rules are called with, in bytes, of one call and of all. Both are chosen: a check of
# more takes minutes.
_BYTES_OF_A_CALL, _BYTES_OF_ALL = 4 << 20, 64 << 20
_CANDIDATES = 3  # as many times the limit of signatures are looked out for values: some calls are never computed
_SETTINGS = ("enable_x64", "numpy_dtype_promotion", "numpy_rank_promotion")


@dataclass(frozen=True)
class Call:
    """A rule with the values of a call.

    Attributes:
        rule: the function that was called.
        leaves: copies of the leaves of its arguments.
        tree: their structure.
        keys: which leaves are the data of random keys, with the implementation of the keys.
        settings: what `jax.enable_x64` and the like were set to.
    """

    rule: Any
    leaves: tuple[Any, ...]
    tree: Any
    keys: dict[int, Any]
    settings: dict[str, Any]

    def args(self) -> tuple[Any, ...]:
        leaves = [jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in self.leaves]
        for i, implementation in self.keys.items():
            leaves[i] = jax.random.wrap_key_data(leaves[i], impl=implementation)
        return jax.tree.unflatten(self.tree, leaves)

    @contextlib.contextmanager
    def settings_restored(self) -> Iterator[None]:
        """With JAX set as it was in the call."""
        with contextlib.ExitStack() as stack:
            for name, value in self.settings.items():
                stack.enter_context(getattr(jax, name)(value))
            yield

    def argnums(self) -> list[int]:
        """The arguments that have a gradient."""
        inexact = [any(map(_is_inexact, jax.tree.leaves(arg))) for arg in self.args()]
        return [i for i, found in enumerate(inexact) if found and i not in self.static_argnums()]

    def static_argnums(self) -> tuple[int, ...]:
        return getattr(self.rule, "nondiff_argnums", ())


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
        self.left_out: set[tuple[str, str]] = set()
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

    def lacks(self, record: Record) -> bool:
        """Whether values are wanted: the record has none, and its rule has fewer calls with values than the limit."""
        if record.call is not None or record.missing:
            return False
        return sum(r.call is not None for r in self.records.values() if r.rule == record.rule) < self.limit

    def chosen(self) -> list[Record]:
        """For each rule as many records as asked for, those with values first; the others are left out."""
        chosen, count = [], Counter[RecordedRule]()
        for key, record in sorted(self.records.items(), key=lambda item: item[1].call is None):
            count[record.rule] += 1
            if count[record.rule] <= self.limit:
                chosen.append(record)
            else:
                self.left_out.add(key)
        return chosen

    def _recorded(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(rule: Any, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            try:
                self._see(rule, args, kwargs)
            except Exception as error:  # whatever it is, the suite goes on as if it were not recorded
                self.failures[name_of(rule)] = f"{type(error).__name__}: {error}"
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
        try:
            bound = inspect.signature(rule.fun).bind(*args, **kwargs)  # as JAX does: a rule's arguments are positional
        except TypeError:  # JAX says so itself
            return
        bound.apply_defaults()
        args = bound.args
        key = (where.identity, signature(rule, args))
        if key not in self.records:
            if sum(identity == where.identity for identity, _ in self.records) >= _CANDIDATES * self.limit:
                self.left_out.add(key)
                return
            self.records[key] = Record(where, key[1], self.test)
        record = self.records[key]
        record.count += not self.capture
        if self.lacks(record):
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
        settings = {name: getattr(jax.config, f"jax_{name}") for name in _SETTINGS}

        def keep(*values: Any) -> None:
            known = dict(enumerate(leaves)) | dict(zip(traced, values, strict=True))
            if self.lacks(record) and self._fits(record, known.values()):
                copies = tuple(_copy(leaf) for leaf in known.values())
                record.call = Call(rule, copies, tree, keys, settings)

        if traced:
            jax.debug.callback(keep, *[leaves[i] for i in traced])
        else:
            keep()

    def _fits(self, record: Record, leaves: Iterable[Any]) -> bool:
        """Whether there is room for these arrays; the record says why not."""
        size = sum(getattr(leaf, "nbytes", 0) for leaf in leaves)
        if size > _BYTES_OF_A_CALL:
            record.missing = (
                f"{size / 2**20:.0f} MiB of arguments; no more than {_BYTES_OF_A_CALL >> 20} MiB of a call are kept"
            )
        elif self._bytes + size > _BYTES_OF_ALL:
            record.missing = f"no more than {_BYTES_OF_ALL >> 20} MiB of arguments are kept for all rules together"
        else:
            self._bytes += size
            return True
        return False


def _concrete(leaf: Any) -> Any:
    """The value of a tracer that has one, as under `jax.grad` without `jax.jit`; the leaf itself otherwise."""
    if not isinstance(leaf, Tracer):
        return leaf
    value = getattr(leaf, "to_concrete_value", lambda: None)()
    return leaf if value is None else value


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_inexact(leaf: Any) -> bool:
    if isinstance(leaf, (float, complex)):
        return True
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _copy(leaf: Any) -> Any:
    """The array as it is now: those of NumPy may change, those of JAX may be donated."""
    return np.array(jax.device_get(leaf)) if isinstance(leaf, (jax.Array, np.ndarray, np.generic)) else leaf
