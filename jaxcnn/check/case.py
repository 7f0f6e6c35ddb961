"""What is compared with what, and where."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxcnn.check.arguments import Arguments

Function = Callable[..., list[Any]]  # of the floating-point arrays among the arguments, to those among the outputs


@dataclass(frozen=True)
class Case:
    """A function whose rule is looked at.

    Attributes:
        arguments: where it is looked at.
        f: the function.
        reference: returns what f returns, or None: then it is f without its rules.
        claims: its derivative is that of the rule, or None: then it is the reference.
        ignores: the positions of outputs whose cotangent the rule drops on purpose.
        zero: the positions of arguments whose gradient is zero on purpose.
        rtol: the relative tolerance in float64.
        seed: of dy.
        dy: makes of random cotangents of the outputs such as are allowed, or None.
        dy_is_fixed: whether it makes the same of any.
        domain: moves the arrays into the domain of f, or None.
        elsewhere: the other point, or None.
        formula: whether the rule is evaluated in float64.
        own: whether it is evaluated in the dtypes of the arguments.
    """

    arguments: Arguments
    f: Function
    reference: Function | None = None
    claims: Function | None = None
    ignores: frozenset[int] = frozenset()
    zero: frozenset[int] = frozenset()
    rtol: float = 1e-10
    seed: Any = 0
    dy: Callable[[Sequence[Any]], list[Any]] | None = None
    dy_is_fixed: bool = False
    domain: Function | None = None
    elsewhere: tuple[Any, ...] | None = None
    formula: bool = True
    own: bool = True

    @property
    def floats(self) -> tuple[Any, ...]:
        return self.arguments.floats

    def replace(self, **changes: Any) -> "Case":
        return replace(self, **changes)
