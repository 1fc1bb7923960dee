"""Render the templates of the report page."""

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from train_smarter import paths
from train_smarter.sanitize import escape_controls
from train_smarter.terminal import format_duration

MAX_BYTES = 1_900_000  # bytes of a page
ROW_LIMITS = (
    1000,
    400,
    150,
    50,
    15,
)  # trials or classes shown; the first number with which the page is within the limit
MAX_TEXT = 2000  # characters shown of an example's text
MAX_NAME = 200  # ... of a name or a choice
MAX_CONFIG = 20_000  # ... of a config, and of any text


def shrink_to_limit(page: Callable[[int], str]) -> str:
    """The longest page that is within the limit; `page` makes one with so many trials or classes."""
    for most in ROW_LIMITS:
        text = page(most)
        if len(text.encode()) <= MAX_BYTES:
            break
    return text


def truncate(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} …"


def format_html_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---- HTML


def render(template: str, **content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(paths.ENGINE / "report" / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escape_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content, took=format_duration)


def _escape_text(value: Any) -> Any:
    """Text without what a browser would not show, or show elsewhere: control characters, changes of direction."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(escape_controls(line.replace("\t", "    ")) for line in truncate(value, MAX_CONFIG).splitlines())
