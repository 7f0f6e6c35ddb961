"""Ctrl-C and SIGTERM, kept until the training step that runs is complete."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM  # exit codes of a process that they end


class Interrupts:
    """What came, and whether to wait with it.

    Attributes:
        hold: while it is True, the first signal is kept for `check`; the second one is raised at once.
    """

    def __init__(self):
        self.hold = False
        self._kept: int | None = None

    def arrived(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals."""
        del frame
        is_first, self._kept = self._kept is None, number
        if not (self.hold and is_first):
            self.check()

    def check(self) -> None:
        """Raises what was kept: KeyboardInterrupt, or SystemExit for SIGTERM. One that Python's collector of garbage
        interrupts is lost when it is raised, and is found here."""
        if self._kept == signal.SIGINT:
            raise KeyboardInterrupt
        if self._kept is not None:
            raise SystemExit(TERMINATED)


@contextlib.contextmanager
def kept() -> Iterator[Interrupts]:
    """Keeps the signals that have no handler of the caller's, if this is the main thread."""
    interrupts = Interrupts()
    before = {}
    if threading.current_thread() is threading.main_thread():
        usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        before = {number: handler for number, handler in usual.items() if signal.getsignal(number) is handler}
    print_lost = sys.unraisablehook

    def print_others(lost: sys.UnraisableHookArgs) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt | SystemExit):
            print_lost(lost)

    for number in before:
        signal.signal(number, interrupts.arrived)
    if before:
        sys.unraisablehook = print_others
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            sys.unraisablehook = print_lost
