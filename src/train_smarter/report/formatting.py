"""Format values for tables."""

import json
from datetime import datetime
from typing import Any

from train_smarter.terminal import format_duration

Content = dict[str, Any]  # as in a JSON file; what `format=json` prints
View = tuple[Any, list[Any]]  # that, and what the terminal shows instead
MISSING = "-"  # in a table: there is no such value


def format_text(value: Any) -> str:
    if value is None:
        return MISSING
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def format_value(value: Any, most: int = 60) -> str:
    """As it is typed; a long one is cut."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def format_time(moment: str | None) -> str:
    try:
        return datetime.fromisoformat(str(moment)).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return MISSING


def format_seconds(seconds: float | None) -> str:
    return MISSING if seconds is None else format_duration(seconds)
