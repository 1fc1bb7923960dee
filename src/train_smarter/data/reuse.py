"""Data that were read once and serve several runs of one process."""

from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ReadCache:
    """What an object has read, for the next one of its kind.

    settings: all attributes that reading may depend on, as they were before; content: the same ones after it.
    """

    kind: type
    settings: dict[str, Any]
    content: dict[str, Any]


def copy_containers(node: Any) -> Any:
    """Dicts and lists are copied, however deep; what they hold, tensors say, stays the same object."""
    if type(node) is dict:
        return {key: copy_containers(value) for key, value in node.items()}
    return [copy_containers(value) for value in node] if type(node) is list else node


def equal_settings(one: Any, other: Any) -> bool:
    """Whether two settings are equal without a doubt: of what is no plain value, only the very same object is."""
    if one is other or type(one) is not type(other):
        return one is other
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal_settings(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal_settings, one, other))
    plain = isinstance(one, str | int | float | Path) or is_dataclass(one)  # of plain values, which name files
    return plain and bool(one == other)
