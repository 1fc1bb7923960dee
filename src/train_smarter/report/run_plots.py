"""Plots of a run: curves, confusion matrix, calibration, layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from train_smarter.report.plot import (
    BLUE,
    FOREGROUND,
    GRAY,
    HEIGHT,
    LINES,
    NUMBERED,
    ORANGE,
    SERIES,
    SPLIT,
    WIDTH,
    Draw,
    Points,
    ellipsize,
    log_scale,
    new_figure,
    plot,
)
from train_smarter.sanitize import escape_controls


def _ellipsize_left(name: object, most: int = 18) -> str:
    """Of a layer: how its name ends tells it from its neighbours."""
    text = escape_controls(name)
    return text if len(text) <= most else f"…{text[1 - most :]}"


def _mark_points(points: Points) -> dict[str, Any]:
    """The style of a line: each point is marked where there are few."""
    return {"marker": "o", "markersize": 2.5} if len(points) <= 40 else {}


def _label_epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


# ---- one run


@plot
def curves(title: str, series: Mapping[str, Points], *, best: float | None = None) -> Draw:
    """A line for each of `series`, named by its split; `best`: the epoch that was kept."""
    figure, axes = new_figure(title=title)
    for place, (name, points) in enumerate(series.items()):
        color = SPLIT.get(name, SERIES[place])
        axes.plot(*zip(*points, strict=True), label=name, color=color, **_mark_points(points))
    if best is not None:
        axes.axvline(best, color=FOREGROUND, alpha=0.5, linewidth=1, linestyle=":", label="best")
    _label_epochs(axes)
    if len(series) > 1:
        axes.legend(loc="best")
    return figure, {}


def draw_confusion(
    counts: Sequence[Sequence[int]], names: Sequence[str], *, title: str = "", static: bool = False
) -> Draw:
    """counts: (K, K), row = true class, column = predicted; the fuller a colour, the larger the share of the row.

    What is right is blue, and what is mistaken orange, which begins at a tenth of full: one in a thousand is seen.
    static: a picture without tooltips, so the shares are in the cells, or a colour bar is at the side.
    """
    matrix = np.array(counts)
    shares = matrix / matrix.sum(1, keepdims=True).clip(1)
    numbered = len(names) <= NUMBERED
    side = max(3.0, 0.42 * len(names)) if numbered else 6.5
    margin = 0.6 + (0.075 * max(map(len, map(ellipsize, names))) if len(names) <= 100 else 0.3)
    figure, axes = new_figure(side + margin, side + margin, title)
    color = np.empty((*shares.shape, 4))
    color[..., :3], color[..., 3] = to_rgb(ORANGE), np.where(matrix > 0, 0.1 + 0.9 * shares, 0)  # 0 shows the page
    right = np.arange(len(names))
    color[right, right] = [[*to_rgb(BLUE), share] for share in shares.diagonal()]
    axes.imshow(color, interpolation="none")
    axes.grid(visible=False)
    axes.set(xlabel="predicted", ylabel="true")
    _label_classes(axes, names)
    if static and not numbered:
        bar = ScalarMappable(Normalize(0, 1), LinearSegmentedColormap.from_list("share", ["white", BLUE]))
        figure.colorbar(bar, ax=axes, label="share of the true class", fraction=0.046)
    return figure, _annotate_cells(axes, matrix, shares, names, static=static) if numbered else {}


confusion = plot(draw_confusion)


def _label_classes(axes: Axes, names: Sequence[str]) -> None:
    if len(names) > 100:
        return  # the axes count them
    shown = [ellipsize(name) for name in names]
    size = 10 if len(names) <= NUMBERED else 4.5
    upright = len(names) <= NUMBERED and max(map(len, shown)) <= 4
    axes.set_xticks(range(len(names)), shown, rotation=0 if upright else 90, fontsize=size)
    axes.set_yticks(range(len(names)), shown, fontsize=size)


def _annotate_cells(axes: Axes, matrix: Any, shares: Any, names: Sequence[str], *, static: bool) -> dict[str, str]:
    titles = {}
    for (row, column), count in np.ndenumerate(matrix):
        if count:  # an empty cell says zero, and the eye finds the others
            gid, share = f"cell-{row}-{column}", shares[row, column]
            style: Any = {"ha": "center", "va": "center", "fontsize": 7 if static or count >= 10_000 else 9}
            color = "white" if share > 0.5 else FOREGROUND
            axes.text(column, row, f"{count:,}\n{share:.0%}" if static else f"{count}", gid=gid, color=color, **style)
            titles[gid] = f"true {names[row]}, predicted {names[column]}: {count}, {share:.1%} of the class"
    return titles


@plot
def reliability(bins: Sequence[Mapping[str, Any]]) -> Draw:
    """Accuracy over confidence, of which the diagonal is the ideal; below, where the examples are."""
    figure = Figure(figsize=(WIDTH * 0.85, WIDTH * 0.95), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width = bins[0]["high"] - bins[0]["low"]
    total = max(1, sum(one["count"] for one in bins))
    upper.plot([0, 1], [0, 1], color=FOREGROUND, alpha=0.5, linewidth=1, linestyle=":")
    titles = {}
    for place, one in enumerate(bins):
        if one["count"]:
            for kind, axes, height in (("right", upper, one["accuracy"]), ("count", lower, one["count"] / total)):
                bar = axes.bar(one["low"], height, width * 0.9, align="edge", color=BLUE if axes is upper else GRAY)
                bar[0].set_gid(f"{kind}-{place}")
                titles[f"{kind}-{place}"] = (
                    f"{one['count']} examples, {one['confidence']:.1%} sure: {one['accuracy']:.1%} right"
                )
            upper.plot([one["confidence"]], [one["accuracy"]], "o", color=ORANGE, markersize=3.5)
    upper.set(ylabel="right", ylim=(0, 1.02), xlim=(0, 1))
    lower.set(xlabel="confidence", ylabel="share")
    return figure, titles


@plot
def layers(title: str, series: Mapping[str, Points], *, log: bool = True) -> Draw:
    """A line for each layer over the epochs; of many layers, a map of colours. log: of what is above 0."""
    positive = {name: [(x, y) for x, y in points if y > 0 or not log] for name, points in series.items()}
    positive = {name: points for name, points in positive.items() if points}
    if len(positive) > LINES:
        return _heatmap(title, positive, log=log), {}
    figure, axes = new_figure(WIDTH, HEIGHT + 0.16 * -(-len(positive) // 3), title)
    titles = {}
    for place, (name, points) in enumerate(positive.items()):
        style = {"color": SERIES[place], "gid": f"layer-{place}", **_mark_points(points)}
        axes.plot(*zip(*points, strict=True), label=_ellipsize_left(name), **style)
        titles[f"layer-{place}"] = name
    if log and positive:
        log_scale(axes.yaxis)
    if positive:
        figure.legend(loc="outside lower left", ncols=2 if max(map(len, positive)) > 12 else 3)
    _label_epochs(axes)
    return figure, titles


def _heatmap(title: str, series: Mapping[str, Points], *, log: bool) -> Figure:
    epochs = sorted({x for points in series.values() for x, _ in points})
    grid = np.full((len(series), len(epochs)), np.nan)
    for row, points in enumerate(series.values()):
        for epoch, value in points:
            grid[row, epochs.index(epoch)] = value
    figure, axes = new_figure(WIDTH, min(9.0, 1.2 + 0.17 * len(series)), title)
    image = axes.imshow(
        grid,
        aspect="auto",
        interpolation="none",
        norm=LogNorm() if log else None,
        extent=(-0.5, len(epochs) - 0.5, len(series), 0),
    )
    bar = figure.colorbar(image, ax=axes, format=FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=False)
    if len(series) <= 48:
        axes.set_yticks(np.arange(len(series)) + 0.5, [_ellipsize_left(name) for name in series], fontsize=8)
    axes.set(xlabel="epoch", ylabel="" if len(series) <= 48 else "layer, from input to output")
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda at, _: f"{epochs[int(at)]:g}" if 0 <= at < len(epochs) and at == int(at) else "")
    )
    return figure
