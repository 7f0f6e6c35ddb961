"""What a training says on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sized
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any


def tell(line: str) -> None:
    """Prints on stderr, if anyone reads it: no training ends because nobody does."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def epoch_line(metrics: Mapping[str, Any], epochs: int) -> str:
    """The metrics of an epoch as a line for a person."""
    shown = [f"epoch {metrics['epoch']:{len(str(epochs))}}/{epochs}"]
    for name, value in metrics.items():
        if name not in ("epoch", "step", "learning_rate", "seconds"):
            is_share = name.endswith("accuracy")
            shown.append(f"{name.replace('_', ' ')} {value:{'7.2%' if is_share else '.4f'}}")
    return "  ".join([*shown, f"{metrics['seconds']:.1f} s"])


def progress_bar(batches: Iterable[Any], label: str, position: int) -> AbstractContextManager[Iterable[Any]]:
    """The batches, with a progress bar that goes away at the end if stderr is a terminal and tqdm is installed."""
    if sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty():
        return nullcontext(batches)
    try:
        from tqdm import tqdm
    except ImportError:
        return nullcontext(batches)
    total = position + len(batches) if isinstance(batches, Sized) else None
    return tqdm(batches, desc=label, unit="step", leave=False, initial=position, total=total)
