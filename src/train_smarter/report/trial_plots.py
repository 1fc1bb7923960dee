"""Plots of a search: history, parallel coordinates, scatter, bars."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from train_smarter.report.plot import (
    BLUE,
    FOREGROUND,
    GRAY,
    HEIGHT,
    ORANGE,
    TRIAL,
    WIDTH,
    Draw,
    ellipsize,
    new_figure,
    plot,
)
from train_smarter.sanitize import escape_controls


@plot
def bars(title: str, values: Mapping[str, float], *, unit: str = "") -> Draw:
    """A bar to the right for each name, the first one at the top."""
    figure, axes = new_figure(WIDTH, 0.9 + 0.3 * len(values), title)
    places = range(len(values))
    drawn = axes.barh(list(places), list(values.values()), color=BLUE, height=0.65)
    for place, (bar, (name, value)) in enumerate(zip(drawn, values.items(), strict=True)):
        bar.set_gid(f"bar-{place}")
        axes.annotate(f"{value:.2f}", (value, place), xytext=(3, 0), textcoords="offset points", va="center", gid=name)
    axes.set_yticks(list(places), [ellipsize(name, 26) for name in values])
    axes.invert_yaxis()
    axes.set(xlabel=unit, xlim=(0, 1.15 * max([*values.values(), 1e-9])))
    axes.grid(visible=False, axis="y")
    return figure, {f"bar-{place}": f"{name}: {value:.4f}" for place, (name, value) in enumerate(values.items())}


# ---- many runs


@plot
def history(title: str, shown: Sequence[tuple[str, int, float, str, str]], *, mode: str) -> Draw:
    """What each trial came to, and the best so far.

    shown: (trial, number, value, state, what is shown over it), of which only complete ones count. What is far worse
    than the others stands at the edge: the best are to be told apart.
    """
    figure, axes = new_figure(WIDTH * 1.15, HEIGHT, title)
    titles = {}
    heights = dict(zip([point[0] for point in shown], clip_outliers([point[2] for point in shown], mode), strict=True))
    for gid, color, marker in (("complete", BLUE, "o"), ("incomplete", GRAY, "x")):
        points = [one for one in shown if (one[3] == "complete") == (gid == "complete")]
        if points:
            axes.scatter(
                [p[1] for p in points], [heights[p[0]] for p in points], s=20, color=color, marker=marker, gid=gid
            )
            titles[gid] = [(point[0], point[4]) for point in points]
    if steps := _best_so_far(shown, mode):
        axes.step(*zip(*steps, strict=True), where="post", color=ORANGE, label="best so far")
        axes.legend(loc="best")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, titles


def clip_outliers(values: Sequence[float], mode: str) -> list[float]:
    """Values of which the worst are moved up to twice as far from the best as the best three quarters lie."""
    if not values:
        return []
    order = sorted(values, reverse=mode != "min")
    best, typical = order[0], order[(3 * len(order) - 1) // 4]
    edge = best + 2 * (typical - best)
    if edge == best:
        return list(values)
    return [min(value, edge) if mode == "min" else max(value, edge) for value in values]


def _best_so_far(shown: Iterable[tuple[str, int, float, str, str]], mode: str) -> list[tuple[float, float]]:
    better = min if mode == "min" else max
    steps: list[tuple[float, float]] = []
    for _, number, value, state, _ in shown:
        if state == "complete":
            steps.append((number, better(value, steps[-1][1]) if steps else value))
    return steps


@plot
def scatter(names: tuple[str, str], shown: Sequence[tuple[str, float, float, bool, str]]) -> Draw:
    """Trials by two objectives; shown: (trial, x, y, is it on the Pareto front, what is shown over it)."""
    figure, axes = new_figure(title="Pareto front")
    titles = {}
    for gid, best in (("others", False), ("front", True)):
        points = sorted((one for one in shown if one[3] == best), key=lambda one: one[1])
        if points:
            across, up = [point[1] for point in points], [point[2] for point in points]
            axes.scatter(across, up, s=36 if best else 18, color=ORANGE if best else GRAY, gid=gid)
            titles[gid] = [(point[0], point[4]) for point in points]
            if best:
                axes.plot(across, up, color=ORANGE, linewidth=1, alpha=0.6, zorder=1)
    axes.set(xlabel=escape_controls(names[0]), ylabel=escape_controls(names[1]))
    return figure, titles


@plot
def parallel(
    columns: Mapping[str, Sequence[Any]],
    trials: Sequence[str],
    strengths: Sequence[float],
    texts: Sequence[str],
    *,
    log: Collection[str] = (),
) -> Draw:
    """A line for each trial through all that was chosen for it, to what it came to.

    Args:
        columns: by name, a value for each trial; the last is what they came to. None: the trial has none.
        trials, texts: of each trial its name, and what is shown over its line.
        strengths: 0 to 1, the best the highest: how much of a line is seen; 1 is drawn last, in a colour of its own.
        log: columns that are taken by their logarithms.
    """
    figure, axes = new_figure(max(WIDTH * 1.5, 1.4 * len(columns)), 3.4)
    axes.set_axis_off()
    heights = [
        _draw_axis(axes, place, name, *scale_to_unit(values, log=name in log))
        for place, (name, values) in enumerate(columns.items())
    ]
    for at in sorted(range(len(trials)), key=lambda at: strengths[at]):
        line = [(x, column[at]) for x, column in enumerate(heights) if column[at] is not None]
        best = strengths[at] == 1
        color, width = (ORANGE, 2.4) if best else (BLUE, 1.2)
        if line:
            alpha = 1.0 if best else 0.12 + 0.7 * strengths[at] ** 2
            axes.plot(*zip(*line, strict=True), color=color, alpha=alpha, linewidth=width, gid=f"{TRIAL}{trials[at]}")
    axes.set(xlim=(-0.35, len(columns) - 0.45), ylim=(-0.12, 1.12))
    return figure, {f"{TRIAL}{trial}": text for trial, text in zip(trials, texts, strict=True)}


def _draw_axis(
    axes: Axes, place: int, name: str, heights: list[float | None], marks: Sequence[tuple[float, str]]
) -> list[float | None]:
    """Draws an axis with its name and its marks; returns the heights on it."""
    axes.plot([place, place], [0, 1], color=FOREGROUND, alpha=0.4, linewidth=1)
    axes.text(place, 1.08, ellipsize(name, 18), ha="center", fontsize=10)
    for height, text in marks:
        axes.text(place + 0.03, height, ellipsize(text, 14), fontsize=8, va="center", alpha=0.85)
    return heights


def scale_to_unit(values: Sequence[Any], *, log: bool = False) -> tuple[list[float | None], list[tuple[float, str]]]:
    """Values -> their heights between 0 and 1, and marks (height, text): of a few values each, else five.

    log: by their logarithms. Texts and truths are spread evenly.
    """
    known = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return _scale_numbers(values, known, math.log if log and known and min(known) > 0 else float)
    kinds = sorted(set(map(str, known)))
    height = {kind: (place + 0.5) / len(kinds) for place, kind in enumerate(kinds)}
    marks = [(height[kind], kind) for kind in kinds[:12]]
    return [None if value is None else height[str(value)] for value in values], marks


def _scale_numbers(
    values: Sequence[float | None], known: Sequence[float], bend: Callable[[float], float]
) -> tuple[list[float | None], list[tuple[float, str]]]:
    low = bend(min(known, default=0.0))
    span = bend(max(known, default=0.0)) - low

    def height(value: float) -> float:
        return (bend(value) - low) / span if span else 0.5

    kinds = sorted(set(known))
    if len(kinds) > 6:
        steps = [low + part * span for part in (0.0, 0.25, 0.5, 0.75, 1.0)]
        kinds = steps if bend is float else [math.exp(step) for step in steps]
    marks: list[tuple[float, str]] = []
    for kind in kinds:
        if not marks or height(kind) - marks[-1][0] >= 0.06:  # else one text would stand on the other
            marks.append((height(kind), f"{kind:.4g}"))
    return [None if value is None else height(value) for value in values], marks


@plot
def error_bars(title: str, groups: Mapping[str, Mapping[str, Any]]) -> Draw:
    """Mean and deviation of each group, the first one at the top; groups: {mean, std, n, min, max} by name."""
    figure, axes = new_figure(WIDTH * 1.2, 0.9 + 0.32 * len(groups), title)
    titles = {}
    for place, (name, spread) in enumerate(groups.items()):
        axes.plot([spread["min"], spread["max"]], [place, place], color=GRAY, linewidth=1.2)
        style: Any = {"fmt": "o", "color": BLUE, "elinewidth": 4, "markersize": 6}
        axes.errorbar(spread["mean"], place, xerr=spread["std"] or 0, **style)[0].set_gid(f"group-{place}")
        deviation = f" ± {spread['std']:.4f}" if spread["std"] is not None else ""
        titles[f"group-{place}"] = f"{name}: {spread['mean']:.4f}{deviation}, of {spread['n']}"
    axes.set_yticks(range(len(groups)), [ellipsize(name, 26) for name in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    return figure, titles
