"""What `explicit` replaced and what it did not, as `explicit_report` says it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """One convolution or pool of a function, as it stands in its jaxpr; in a loop it is there once.

    name: of the primitive, such as "conv_general_dilated".
    types: of its arrays, such as "float32[8,32,32,3] float32[3,3,3,16]".
    where: the calls, loops and named scopes that it is in, such as "jit(apply) / scan / ResNet/Conv_0".
    note: why it stays as it was; of what is replaced, whose gradient it has if not its own.
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
