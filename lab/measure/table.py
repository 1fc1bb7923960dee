"""Ratios, goals, Markdown, and the marked places in the docs that they are written to."""

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GOALS = ("what", "goal", "measured", "met")


@dataclass(frozen=True)
class Ratio:
    """A ratio measured several times."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def spread(values: Sequence[float]) -> Ratio:
    return Ratio(statistics.median(values), min(values), max(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Ours divided by theirs, round by round: what slows a whole round down cancels."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


@dataclass(frozen=True)
class Goal:
    """A row of the goals: at most so much, and what it came to."""

    what: str
    most: float
    measured: Ratio
    percent: bool = False

    @property
    def met(self) -> bool:
        return self.measured.median <= self.most

    def row(self) -> list[str]:
        measured, most = str(self.measured), f"{self.most:g}"
        if self.percent:
            m = self.measured
            measured, most = f"{m.median:.1%} ({m.least:.1%} to {m.most:.1%})", f"{self.most:.0%}"
        return [self.what, f"at most {most}", measured, "yes" if self.met else "**no**"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a | within a cell is escaped."""
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def goals_table(goals: Iterable[Goal]) -> str:
    return table(GOALS, [goal.row() for goal in goals])


# ---- marked places


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def marked(text: str, name: str, content: str) -> str:
    """The text with `content` between the marks of `name`; they are added at the end where they are missing."""
    begin, end = marks(name)
    block = f"{begin}\n{content.strip()}\n{end}"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if pattern.search(text):
        return pattern.sub(lambda _: block, text, count=1)
    return f"{text.rstrip()}\n\n{block}\n" if text.strip() else f"{block}\n"


def goal_rows(text: str) -> list[str]:
    """The rows of every table of goals in a Markdown text, in its order."""
    head = re.escape(table(GOALS, []))
    return [row for block in re.findall(rf"{head}\n((?:\|.*\n?)*)", text) for row in block.splitlines()]


def headline(text: str) -> str:
    """One table of all goals that the text has measured."""
    return "\n".join([table(GOALS, []), *goal_rows(text)])
