"""Ctrl-C, a cluster's SIGTERM, and the SIGHUP of a terminal that is gone: training stops where it can resume, saved.

Everything else stops at once.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
PARENT_VARIABLE = (
    "TRAIN_SMARTER_LEASH"  # the environment variable of a process that is to end with the one that started it
)


class TerminatedBySignal(SystemExit):
    """Ends the command as the signal asked, with the exit code that shells know it by."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class SignalState:
    """The signal that asked this process to end, if any.

    Attributes:
        received: the signal's number, or None; received_at: when it arrived, on the monotonic clock.
        deferred: True while the training polls `received`; otherwise the signal ends the program at once, as a second
            one always does.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.received_at = 0.0
        self.deferred = False

    def install(self) -> None:
        """Takes the signals over, from Lightning too, which takes SIGTERM for itself when a fit begins."""
        if threading.current_thread() is threading.main_thread():  # elsewhere, Python allows it to nobody
            for number in SIGNALS:
                if number in SIGNALS[:2] or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                    signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (the signal module's call)
        first, self.received, self.received_at = self.received is None, number, time.monotonic()
        if not (self.deferred and first):
            raise TerminatedBySignal(number)


signals_state = SignalState()  # signals come to a process


@contextmanager
def handle_signals() -> Iterator[None]:
    """The signals are this module's until the block ends."""
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    signals_state.received, signals_state.deferred = None, False
    signals_state.install()
    try:
        yield
    finally:
        signals_state.received, signals_state.deferred = None, False
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def exit_with_parent() -> None:
    """Asks this process to end when the multirun that started it is gone, which is at the other end of its input."""
    if PARENT_VARIABLE in os.environ:
        threading.Thread(target=_exit_at_eof, args=(sys.stdin.fileno(),), daemon=True).start()


def _exit_at_eof(file: int) -> None:
    while os.read(file, 1):  # not by sys.stdin, which the end of the process could not close meanwhile
        pass
    os.kill(os.getpid(), signal.SIGTERM)
