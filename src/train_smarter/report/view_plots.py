"""Plots of predictions: for the report as SVG, for TensorBoard as figures."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from train_smarter.report.plot import BLUE, FOREGROUND, HEIGHT, SERIES, WIDTH, Draw, ellipsize, new_figure, plot

MAX_POINTS = 1000  # of a line
MAX_LABEL = 60  # letters of a title or an axis


def draw_scatter(view: dict[str, Any]) -> Draw:
    """Points, and the diagonal."""
    figure, axes = new_figure(WIDTH, WIDTH, ellipsize(view["title"], MAX_LABEL))
    points = [(float(x), float(y)) for x, y in view["points"]]
    both = [value for point in points for value in point]
    axes.plot([min(both), max(both)], [min(both), max(both)], color=FOREGROUND, alpha=0.5, linewidth=1, linestyle=":")
    x, y = zip(*points, strict=True)
    axes.plot(x, y, "o", color=BLUE, markersize=3, alpha=0.55, markeredgewidth=0)
    axes.set(xlabel=ellipsize(view["x"], MAX_LABEL), ylabel=ellipsize(view["y"], MAX_LABEL))
    axes.set_aspect("equal", adjustable="datalim")
    return figure, {}


def draw_histogram(view: dict[str, Any]) -> Draw:
    """A bar for each bin, with its count over it, and a line at 0."""
    figure, axes = new_figure(WIDTH, HEIGHT, ellipsize(view["title"], MAX_LABEL))
    edges, counts = [float(edge) for edge in view["edges"]], [int(count) for count in view["counts"]]
    titles = {}
    for place, (low, high, count) in enumerate(zip(edges, edges[1:], counts, strict=False)):
        if count:
            (bar,) = axes.bar(low, count, high - low, align="edge", color=BLUE, edgecolor="none")
            bar.set_gid(f"bin-{place}")
            titles[f"bin-{place}"] = f"{low:.4g} to {high:.4g}: {count}"
    axes.axvline(0, color=FOREGROUND, alpha=0.5, linewidth=1, linestyle=":")
    axes.set(xlabel=ellipsize(view["x"], MAX_LABEL), ylabel="examples")
    return figure, titles


def draw_lines(view: dict[str, Any]) -> Draw:
    """A line for each of the series, with a legend where there are several."""
    figure, axes = new_figure(WIDTH, HEIGHT, ellipsize(view["title"], MAX_LABEL))
    for color, one in zip(SERIES, view["series"], strict=False):
        points = [(float(x), float(y)) for x, y in one["points"][:MAX_POINTS]]
        axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=2.5, label=ellipsize(one["name"]))
    axes.set(xlabel=ellipsize(view["x"], MAX_LABEL), ylabel=ellipsize(view["y"], MAX_LABEL), ylim=(0, None))
    if len(view["series"]) > 1:
        axes.legend()
    return figure, {}


DRAWN = {"scatter": draw_scatter, "lines": draw_lines, "histogram": draw_histogram}
SVG = {kind: plot(draw) for kind, draw in DRAWN.items()}


def draw_images(view: dict[str, Any], pictures: Sequence[Sequence[Any]]) -> Figure:
    """Rows of images, each with its caption on the left; pictures: those of the view, as arrays."""
    rows, columns = len(pictures), max(map(len, pictures))
    figure = Figure(figsize=(1.4 * columns + 1.6, 1.4 * rows + 0.5), layout="constrained")
    figure.suptitle(ellipsize(view["title"], MAX_LABEL), fontsize=10)
    for row, (images, item) in enumerate(zip(pictures, view["items"], strict=True)):
        for column, image in enumerate(images):
            axes = figure.add_subplot(rows, columns, row * columns + column + 1)
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.grid(visible=False)
            axes.set(xticks=[], yticks=[])
            if not column:
                label = str(item["caption"]).replace(": ", ":\n").replace("; ", ";\n")
                axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)
    return figure
