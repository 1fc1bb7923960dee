"""The log file of a run."""

import logging
import sys


class LogFile(logging.FileHandler):
    """Ends no run, and prints no traceback, where it cannot be written (a full disk): one line, once."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True
            print(f"{self.baseFilename} is not written: {error.strerror}", file=sys.stderr)  # noqa: T201
