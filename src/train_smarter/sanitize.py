"""Makes text from elsewhere (class names, file names, a run's metadata) safe to print and to open in a spreadsheet."""

import logging
import re
from typing import Any

# What a spreadsheet takes for the start of a formula (OWASP, CSV Injection).
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 (of full width, too)


def escape_controls(thing: object) -> str:
    """Return text on one line, without control characters: each is replaced by its escape, `\\x1b`."""
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in str(thing))


def escape_controls_in_lines(text: str) -> str:
    """The same, but newlines and tabs are kept."""
    return re.sub(r"[^\n\t]+", lambda part: escape_controls(part[0]), text)


def csv_cell(value: Any) -> Any:
    """Return a table's cell so that no spreadsheet takes it for a formula: text that could be one starts with `'`.

    Numbers are unchanged, and so is text that is a number (`-1`).
    """
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


class Formatter(logging.Formatter):
    """Escapes control characters in log messages and tracebacks, except newlines and tabs."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_controls_in_lines(super().format(record))
