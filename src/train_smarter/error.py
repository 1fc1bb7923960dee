"""A mistake that ends with one clear message instead of a traceback."""

from collections.abc import Sequence
from difflib import get_close_matches


class UserError(Exception):
    """A user's mistake, or a fault in the world: one message, exit code 2, no traceback.

    The message says what was given, what is accepted and what to type next.
    """


def nearest(given: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    close = get_close_matches(given, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
