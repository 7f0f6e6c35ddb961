"""What `explicit` replaced and what it did not, as `explicit_report` says it."""

from collections.abc import Sequence
from dataclasses import dataclass

from jax.extend import core

_RULES = {"custom_jvp_call": "custom_jvp", "custom_vjp_call": "custom_vjp"}
_NAMES = {"remat2": "remat", **_RULES}  # the names that users know


@dataclass(frozen=True)
class Operation:
    """One convolution or pool of a function, as it stands in its jaxpr; in a loop it is there once.

    name: of the primitive, such as "conv_general_dilated".
    types: of its arrays, such as "float32[8,32,32,3] float32[3,3,3,16]".
    where: the calls, loops and named scopes that it is in, such as "jit(apply) / scan / ResNet/Conv_0".
    note: why it is kept. For one that is replaced inside a custom rule, that the gradient is that of the rule.
    """

    name: str
    types: str
    where: str
    note: str

    def __str__(self) -> str:
        where = f" in {self.where}" if self.where else ""
        note = f": {self.note}" if self.note else ""
        return f"{self.name} {self.types}{where}{note}"


@dataclass(frozen=True)
class ExplicitReport:
    """All convolutions and pools of a function: what our ops compute, and what stays as it was."""

    replaced: tuple[Operation, ...]
    kept: tuple[Operation, ...]

    def __str__(self) -> str:
        lines = [f"replaced: {len(self.replaced)}", *(f"  {operation}" for operation in self.replaced)]
        lines += [f"kept: {len(self.kept)}", *(f"  {operation}" for operation in self.kept)]
        return "\n".join(lines)


def operation(eqn: core.JaxprEqn, enclosing: Sequence[core.JaxprEqn], reason: str) -> Operation:
    """An equation in words: `enclosing` are those it is inside, the outermost first; `reason` is why it is kept."""
    rules = [_RULES[outer.primitive.name] for outer in enclosing if outer.primitive.name in _RULES]
    if rules and not reason:
        reason = f"the gradient is that of the {rules[-1]} around it"
    where = [*map(_call, enclosing), str(eqn.source_info.name_stack)]
    types = " ".join(atom.aval.str_short() for atom in eqn.invars)
    return Operation(eqn.primitive.name, types, " / ".join(filter(None, where)), reason)


def _call(eqn):
    """A call or loop as its users know it, with the name of the function that it calls."""
    name, function = _NAMES.get(eqn.primitive.name, eqn.primitive.name), eqn.params.get("name")
    return f"{name}({function})" if isinstance(function, str) else name
