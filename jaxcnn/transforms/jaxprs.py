"""A function as a jaxpr, and a jaxpr with other equations in place of some of its own.

An equation that is not replaced stays the very same object, with its name, its effects and the context that it was
traced in. A jaxpr in which nothing is replaced stays the very same object, too: JAX may have compiled it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.core
from jax.extend import core

_NNX_HINT = (
    "jaxcnn traces f by itself, where a module of flax.nnx from outside cannot change itself, as batch norm and "
    "dropout do: pass its state in place of it, by nnx.split, put it together by nnx.merge(..., copy=True) inside f, "
    "and return the new state; jaxcnn/transforms/README.md has an example."
)


def trace(
    f: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[core.ClosedJaxpr, Callable[[Iterable[Any]], Any]]:
    """The jaxpr of f(*args, **kwargs), which has no arguments, and a function from its results to the result of f.

    The jaxpr closes over all arguments, so that each reaches f as it came: an array, a tracer, or a value that is none
    of JAX. A result that is no array is returned as it is.
    """
    rest = []

    def arrays():
        leaves, structure = jax.tree.flatten(f(*args, **kwargs))
        rest[:] = [structure, [None if isinstance(leaf, jax.Array) else leaf for leaf in leaves]]
        return [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

    try:
        closed = jax.make_jaxpr(arrays)()
    except Exception as error:
        if "trace level" in str(error):  # Flax's word for it
            error.add_note(_NNX_HINT)
        raise
    structure, others = rest

    def result_of(values):
        values = iter(values)
        return jax.tree.unflatten(structure, [next(values) if leaf is None else leaf for leaf in others])

    return closed, result_of


def every_equation(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """The equations of a jaxpr, at any depth."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in core.jaxprs_in_params(eqn.params):
            yield from every_equation(inner)


class Rewriter:
    """Puts other equations in the place of some. A subclass says of which (`replaced_by`), and where (`enters`)."""

    def __init__(self):
        self._known: WeakKeyDictionary[core.ClosedJaxpr, core.ClosedJaxpr | None] = WeakKeyDictionary()

    def replaced_by(self, eqn: core.JaxprEqn) -> core.ClosedJaxpr | None:
        """A jaxpr from the inputs of an equation to its results, or None if the equation stays."""
        raise NotImplementedError

    def enters(self, eqn: core.JaxprEqn) -> bool:
        """Whether equations may be replaced inside one that stays."""
        return True

    def call(self, f: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """f(*args, **kwargs), computed by the equations of f as they are after rewriting."""
        closed, result_of = trace(f, args, kwargs)
        return result_of(jax.core.eval_jaxpr(self.jaxpr(closed.jaxpr), closed.consts))

    def jaxpr(self, jaxpr: core.Jaxpr) -> core.Jaxpr:
        """The jaxpr with its equations replaced, at any depth."""
        equations, values, changed = [], {}, False

        def value(atom):
            return atom if isinstance(atom, core.Literal) else values.get(atom, atom)

        for eqn in jaxpr.eqns:
            replacement = self.replaced_by(eqn)
            if replacement is None:
                entered = self.entered(eqn) if self.enters(eqn) else eqn
                changed |= entered is not eqn
                equations.append(entered.replace(invars=list(map(value, eqn.invars))) if values else entered)
            else:
                changed = True
                results = _inlined(replacement, map(value, eqn.invars), eqn, equations)
                values.update(zip(eqn.outvars, results, strict=True))
        return jaxpr.replace(eqns=equations, outvars=list(map(value, jaxpr.outvars))) if changed else jaxpr

    def closed_jaxpr(self, closed: core.ClosedJaxpr) -> core.ClosedJaxpr:
        """The same for a jaxpr with constants. It gives the same object each time, which JAX may have compiled."""
        if closed not in self._known:
            jaxpr = self.jaxpr(closed.jaxpr)
            self._known[closed] = None if jaxpr is closed.jaxpr else closed.replace(jaxpr=jaxpr)
        return self._known[closed] or closed

    def entered(self, eqn: core.JaxprEqn) -> core.JaxprEqn:
        """The equation with the jaxprs among its parameters rewritten."""
        params = {name: self._parameter(param) for name, param in eqn.params.items()}
        same = all(params[name] is param for name, param in eqn.params.items())
        return eqn if same else eqn.replace(params=params)

    def _parameter(self, param):
        if isinstance(param, core.ClosedJaxpr):
            return self.closed_jaxpr(param)
        if isinstance(param, core.Jaxpr):
            return self.jaxpr(param)
        if not isinstance(param, tuple) or not any(isinstance(entry, core.Jaxpr | core.ClosedJaxpr) for entry in param):
            return param
        entries = [self._parameter(entry) for entry in param]
        if all(new is old for new, old in zip(entries, param, strict=True)):
            return param
        return type(param)(*entries) if hasattr(param, "_fields") else tuple(entries)


def _inlined(closed, inputs, eqn, equations):
    """Appends the equations of a jaxpr, with new variables and the names of `eqn`, and returns its results."""
    variables = [*closed.jaxpr.constvars, *closed.jaxpr.invars]
    constants = [core.Literal(const, jax.typeof(const)) for const in closed.consts]
    values = dict(zip(variables, [*constants, *inputs], strict=True))

    def value(atom):
        return atom if isinstance(atom, core.Literal) else values[atom]

    for inner in closed.jaxpr.eqns:
        outvars = [type(var)(var.aval) for var in inner.outvars]
        names = eqn.source_info.name_stack + inner.source_info.name_stack
        source = eqn.source_info.replace(name_stack=names)
        invars = list(map(value, inner.invars))
        equations.append(inner.replace(invars=invars, outvars=outvars, source_info=source))
        values.update(zip(inner.outvars, outvars, strict=True))
    return [value(atom) for atom in closed.jaxpr.outvars]
