"""The points at which a rule is looked at, and the cotangents."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.check.case import Case
from jaxcnn.check.programs import Arrays
from jaxcnn.check.traces import evaluator, float64_on_cpu, generator
from jaxcnn.check.widening import scrambled, widened

# At the other point each entry is smaller by up to this share, and has the same sign: most functions are defined there.
SHRINKING = 0.1
# The other dy is the first one times this: a rule that is not linear in dy, as by clipping at 10, shows.
OTHER_DY = -1024
# The share of the other dy that is zero, as the dy of what a loss masks: a rule that divides by dy shows.
_ZEROS_IN_DY = 0.1


class Points:
    """The arrays of a case in float64, another point, and cotangents for both."""

    def __init__(self, case: Case, outputs: Sequence[Any]) -> None:
        self.case, self.outputs = case, outputs
        self._inside = None
        if case.domain:
            closed = jax.make_jaxpr(case.domain)(*case.floats)
            got, own = ([list(np.shape(a)) for a in arrays] for arrays in (closed.out_avals, case.floats))
            if got != own:
                raise ValueError(f"{case.arguments.caller}: domain must return arrays of shape {own}, got {got}")
            with float64_on_cpu():
                self._inside = jax.jit(widened(closed))
                self._pulled = jax.jit(lambda args, g: jax.vjp(widened(closed), *args)[1](list(g)))
        self.args = self.inside(wide_arrays(case.floats))

    def random_dy(self) -> Arrays:
        """A normal cotangent in the dtypes of the outputs; one that is allowed, where the case says which are."""
        random = generator("cotangent", self.case.seed)
        return self._allowed([random.normal(size=y.shape) for y in self.outputs])

    def _allowed(self, dy: Sequence[np.ndarray]) -> Arrays:
        """Cotangents that the dtypes of the outputs hold, and that the case allows, if it says which."""
        dy = [np.asarray(d).astype(y.dtype) for d, y in zip(dy, self.outputs, strict=True)]
        if self.case.dy is None:
            return list(dy)
        closed = jax.make_jaxpr(self.case.dy)(dy)
        # First in their own dtypes, for what is rounded; then in float64, for what has to add up exactly.
        dy = evaluator(closed)(*dy)
        with float64_on_cpu():
            return list(map(np.asarray, jax.jit(widened(closed))(*wide_arrays(dy))))

    def other_args(self) -> Arrays:
        """Smaller arguments of the same sign, in the domain."""
        if self.case.elsewhere is not None:
            return wide_arrays(self.case.elsewhere)
        random = generator("other arguments")
        return self.inside([a * (1 - SHRINKING * random.random(size=a.shape)) for a in self.args])

    def other_dy(self, dy: Sequence[Any]) -> Arrays:
        """A dy of another size and sign, which is zero here and there."""
        if self.case.dy_is_fixed:
            return [OTHER_DY * np.asarray(d, np.float64) for d in dy]
        random = generator("other cotangent")
        kept = [random.random(size=d.shape) > _ZEROS_IN_DY for d in dy]
        other = [OTHER_DY * np.asarray(d, np.float64) * k for d, k in zip(dy, kept, strict=True)]
        return other if self.case.dy is None else self._allowed(other)

    def inside(self, args: Sequence[Any]) -> Arrays:
        """Arrays moved into the domain."""
        if self._inside is None:
            return list(args)
        with float64_on_cpu():
            return list(map(np.asarray, self._inside(*wide_arrays(args))))

    def pulled_back(self, args: Sequence[Any], gradients: Sequence[Any]) -> Arrays | None:
        """Gradients without what leads out of the domain; None where everything is in it."""
        if self._inside is None:
            return None
        with float64_on_cpu():
            return list(map(np.asarray, self._pulled(wide_arrays(args), wide_arrays(gradients))))


def wide_arrays(arrays: Sequence[Any]) -> Arrays:
    return [np.asarray(a).astype(np.float64) for a in arrays]


def rounded_anew(arrays: Sequence[Any], dtypes: Sequence[Any] | None = None, seed: int = 0) -> Arrays:
    """Arrays in float64 whose entries move by up to an eps of their own dtype, or of another.

    Equal entries get equal moves, so that what ties goes on to tie.
    """
    angle = generator("rounding", seed).uniform(1e4, 1e5)
    eps = [float(jnp.finfo(t).eps) for t in dtypes or map(jnp.result_type, arrays)]
    with np.errstate(invalid="ignore"):
        return [a * (1 + e * (2 * scrambled(a, angle) - 1)) for a, e in zip(wide_arrays(arrays), eps, strict=True)]
