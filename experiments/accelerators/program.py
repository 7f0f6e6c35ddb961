"""What a compiled program says of itself: its kernels, its memory, and on a TPU how long XLA thinks that it takes."""

import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from benchmark.peers.jax_peer import fingerprint

# The libraries' kernels by the target of XLA's custom call.
_LIBRARY_KERNELS = {
    "convForward": "Forward",
    "convBiasActivationForward": "Forward",
    "convForwardGraph": "Forward",
    "convBackwardInput": "BackwardInput",
    "convBackwardFilter": "BackwardFilter",
    "gemm": "product",
    "lt$matmul": "product",
}
# XLA's own kernels by their instruction. On a TPU all convolutions are of one kind.
_INSTRUCTIONS = {
    "convolution": "convolution",
    "product": "dot",
    "select-and-scatter": "select-and-scatter",
    "scatter": "scatter",
    "loop": "while",
    "fusion": "fusion",
}


@dataclass(frozen=True)
class Program:
    """A program that was compiled, and need not be able to run here.

    Attributes:
        text: the optimized HLO.
        temporary: bytes of memory that it needs besides its arguments and results.
        moved: bytes that it reads and writes; None where XLA does not say.
        estimate: seconds that XLA thinks it takes; None where XLA does not say.
        compiled_in: seconds that compiling took.
    """

    text: str
    temporary: int
    moved: float | None
    estimate: float | None
    compiled_in: float

    @classmethod
    def of(cls, lowered: Any, options: dict[str, Any] | None = None) -> "Program":
        """The program that `jax.jit(f).lower(...)` gave, compiled with options of XLA."""
        begin = time.perf_counter()
        compiled = lowered.compile(options or None)
        return cls.of_compiled(compiled, time.perf_counter() - begin)

    @classmethod
    def of_compiled(cls, compiled: Any, compiled_in: float) -> "Program":
        costs = compiled.cost_analysis() or {}
        estimate = costs.get("optimal_seconds")
        return cls(
            text=compiled.as_text(),
            temporary=compiled.memory_analysis().temp_size_in_bytes,
            moved=costs.get("bytes accessed"),
            estimate=None if estimate is None else estimate % 1,  # each asynchronous copy adds -1
            compiled_in=compiled_in,
        )

    @property
    def kernels(self) -> Counter[str]:
        """How many kernels there are of each kind: convolutions, products of matrices, fusions, scatters, loops."""
        library: list[str] = re.findall(r'custom_call_target="__cu(?:dnn|blas)\$([^"]+)"', self.text)
        counts: Counter[str] = Counter(
            {kind: len(re.findall(f" {op}\\(", self.text)) for kind, op in _INSTRUCTIONS.items()}
        )
        return +(counts + Counter(_LIBRARY_KERNELS.get(target, target) for target in library))

    @property
    def fingerprint(self) -> str:
        """A hash of its instructions, whatever their names."""
        return fingerprint(self.text)
