"""A mistake that ends with one clear message instead of a traceback."""

from collections.abc import Sequence
from difflib import get_close_matches


class UserError(Exception):
    """A user's mistake, or a fault in the world: one message, exit code 2, no traceback.

    The message says what was given, what is accepted and what to type next.
    """


def did_you_mean(given: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    close = get_close_matches(given, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def first_paragraph(error: BaseException) -> str:
    """The first paragraph of a message, on one line."""
    paragraph = str(error).partition("full_key:")[0].strip().split("\n\n")[0]
    return " ".join(paragraph.split()) or repr(error)
