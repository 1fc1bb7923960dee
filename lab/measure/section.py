"""What a section of the benchmark is asked for, and what it hands back."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from measure.table import Goal


class NotMeasuredError(Exception):
    """A section has nothing to show."""


@dataclass(frozen=True)
class Options:
    """rounds: counted repetitions; device: cpu or cuda."""

    rounds: int = 5
    device: str = "cpu"


@dataclass(frozen=True)
class Section:
    """A piece of docs/benchmarks.md: a heading, what was measured and how, the goals, and Markdown tables."""

    title: str
    text: str
    goals: Sequence[Goal] = ()
    tables: Sequence[str] = field(default_factory=list)
