"""Standard output and error that never end a run: a pipe that closes, a terminal that is gone, one without Unicode."""

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class _Output(io.FileIO):
    """A file that discards what it gets from the first write that fails."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError:  # nobody reads any more (`train | head -1`), the terminal is gone, the disk is full
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)
            return len(data)


@contextmanager
def protected_streams() -> Iterator[None]:
    """Replace sys.stdout and sys.stderr in the block, where they are files of the system."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_protected, before)
    threading.excepthook = _report_thread_error
    try:
        yield
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed, as by `>&-`
            stream.flush()
        sys.stdout, sys.stderr = before
        threading.excepthook = threading.__excepthook__


def _protected(stream: TextIO) -> TextIO:
    with suppress(OSError, ValueError, AttributeError):  # none of the system's: a notebook's, or pytest's
        stream.flush()
        file = io.BufferedWriter(_Output(stream.fileno(), "wb", closefd=False))
        # A letter that the terminal's encoding lacks is shown as its escape.
        return io.TextIOWrapper(
            file,
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.isatty() or stream is sys.stderr,
        )
    return stream


def _report_thread_error(failed: threading.ExceptHookArgs) -> None:
    """TensorBoard writes events in a thread; where it cannot, the main thread's next event raises the same error."""
    if not isinstance(failed.exc_value, OSError):
        threading.__excepthook__(failed)
