"""Render the templates of the report page."""

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from train_smarter import paths
from train_smarter.sanitize import printable
from train_smarter.terminal import took

LIMIT = 1_900_000  # bytes of a page
ROWS = (1000, 400, 150, 50, 15)  # trials or classes shown; the first number with which the page is within the limit
TEXT = 2000  # characters shown of an example's text
NAME = 200  # ... of a name or a choice
CONFIG = 20_000  # ... of a config, and of any text


def _fitting(page: Callable[[int], str]) -> str:
    """The longest page that is within the limit; `page` makes one with so many trials or classes."""
    for most in ROWS:
        text = page(most)
        if len(text.encode()) <= LIMIT:
            break
    return text


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} …"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---- HTML


def _rendered(template: str, **content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(paths.ENGINE / "report" / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_legible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content, took=took)


def _legible(value: Any) -> Any:
    """Text without what a browser would not show, or show elsewhere: control characters, changes of direction."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(printable(line.replace("\t", "    ")) for line in _cut(value, CONFIG).splitlines())
