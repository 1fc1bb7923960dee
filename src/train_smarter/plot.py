"""The report's plots: SVG that takes its colours and its font from the page around it, and needs nothing else.

Names and texts may be a stranger's: matplotlib escapes them, and takes none for a formula.
"""

import functools
import math
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from train_smarter.sanitize import printable

INK = "#010203"  # stands for the page's own colour of text, dark or light
# Told apart by colour-blind eyes, and legible on white and on black.
BLUE, ORANGE, GREEN, GRAY = "#3a86c8", "#d9730d", "#2a9d6f", "#8a8f98"
SERIES = (BLUE, ORANGE, GREEN, "#b565a7", "#b8860b", "#5f6fd0", "#c0504d", "#4aa3a3")
SPLIT = {"train": BLUE, "val": ORANGE, "test": GREEN}
WIDTH, HEIGHT = 4.4, 2.7  # inches, of which one is 72 units of the drawing
SCALE = 1.25  # pixels a unit where there is room; a phone shows less
NUMBERED = 25  # classes up to which a confusion matrix has its counts written into it
LINES = 8  # layers up to which each is a line
AXES = 9  # parameters of parallel coordinates
TRIAL = "trial-"  # begins the gid of a trial's line
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "grid.color": INK,
}

Points = Sequence[tuple[float, float]]
# What is shown over a part of a plot that has a gid; over each point of a cloud, with the trial that it is.
Titles = Mapping[str, str | Sequence[tuple[str, str]]]
Drawn = tuple[Figure, Titles]


def plot(draw: Callable[..., Drawn]) -> Callable[..., Markup]:
    """Makes a function that draws one that returns SVG; it takes a `name`, unique in a page, and an `alt` text, too."""

    @functools.wraps(draw)
    def drawn(*args: Any, name: str, alt: str, **options: Any) -> Markup:
        # Never LaTeX: a matplotlibrc in the current folder, which may be a stranger's, could ask for it.
        with rc_context(STYLE | {"svg.hashsalt": name, "text.usetex": False}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the page has more of them
            figure, titles = draw(*args, **options)
            file = StringIO()
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return _inline(file.getvalue(), name, alt, titles)

    return drawn


def _inline(text: str, name: str, alt: str, titles: Titles) -> Markup:
    """A drawing without its head, with ids that no other has, in the page's colours."""
    box = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', text)
    assert box is not None, "matplotlib writes a viewBox"
    body = text[text.index("<defs") : text.rindex("</svg>")].replace(INK, "currentColor")
    first, *groups = body.split('<g id="')
    body = "".join([first, *(_titled(group, titles) for group in groups)])
    body = re.sub(r'(\bid="|\bhref="#|\burl\(#)', rf"\g<1>{name}-", body)
    width = f"max-width:{float(box[1]) * SCALE:.0f}px"
    head = f'<svg id="{name}" {box[0]} role="img" aria-label="{escape(printable(alt))}" style="{width}">'
    return Markup(f"{head}\n{body}</svg>")  # matplotlib has escaped its texts


def _titled(group: str, titles: Titles) -> str:
    """A part of a drawing, from the quote of its gid on, with what is shown over it."""
    gid, _, rest = group.partition('">')
    told = titles.get(gid)
    if told is None:
        return f'<g id="{group}'
    if isinstance(told, str):
        trial = f'" data-trial="{gid.removeprefix(TRIAL)}' if gid.startswith(TRIAL) else ""
        return f'<g id="{gid}{trial}">{_title(told)}{rest}'
    points = iter(told)
    return f'<g id="{gid}">' + re.sub(r"<use ([^>]*)/>", lambda use: _point(use[1], *next(points)), rest)


def _point(attributes: str, trial: str, text: str) -> str:
    return f'<use data-trial="{escape(trial)}" {attributes}>{_title(text)}</use>'


def _title(text: str) -> str:
    return f"<title>{escape(printable(text))}</title>"


def _figure(width: float = WIDTH, height: float = HEIGHT, title: str = "") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(printable(title))
    return figure, axes


def short(name: object, most: int = 18) -> str:
    text = printable(name)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _ending(name: object, most: int = 18) -> str:
    """Of a layer: how its name ends tells it from its neighbours."""
    text = printable(name)
    return text if len(text) <= most else f"…{text[1 - most :]}"


def _log(axis: Any) -> None:
    """Ticks of a logarithmic axis as plain numbers: the usual ones are formulas."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


# ---- one run


@plot
def curves(title: str, series: Mapping[str, Points], *, best: float | None = None) -> Drawn:
    """A line for each of `series`, named by its split; `best`: the epoch that was kept."""
    figure, axes = _figure(title=title)
    for place, (name, points) in enumerate(series.items()):
        style = {"marker": "o", "markersize": 2.5} if len(points) <= 40 else {}
        axes.plot(*zip(*points, strict=True), label=name, color=SPLIT.get(name, SERIES[place]), **style)  # type: ignore[arg-type]
    if best is not None:
        axes.axvline(best, color=INK, alpha=0.5, linewidth=1, linestyle=":", label="best")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(series) > 1:
        axes.legend(loc="best")
    return figure, {}


@plot
def confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Drawn:
    """counts: (K, K), row = true class, column = predicted; the fuller a colour, the larger the share of the row.

    What is right is blue, and what is mistaken orange, which begins at a tenth of full: one in a thousand is seen.
    """
    matrix = np.array(counts)
    shares = matrix / matrix.sum(1, keepdims=True).clip(1)
    numbered = len(names) <= NUMBERED
    side = max(3.0, 0.42 * len(names)) if numbered else 6.5
    margin = 0.6 + (0.075 * max(map(len, map(short, names))) if len(names) <= 100 else 0.3)
    figure, axes = _figure(side + margin, side + margin)
    color = np.empty((*shares.shape, 4))
    color[..., :3], color[..., 3] = to_rgb(ORANGE), np.where(matrix > 0, 0.1 + 0.9 * shares, 0)  # 0 shows the page
    right = np.arange(len(names))
    color[right, right] = [[*to_rgb(BLUE), share] for share in shares.diagonal()]
    axes.imshow(color, interpolation="none")
    axes.grid(visible=False)
    axes.set(xlabel="predicted", ylabel="true")
    _name_classes(axes, names)
    return figure, _write_counts(axes, matrix, shares, names) if numbered else {}


def _name_classes(axes: Axes, names: Sequence[str]) -> None:
    if len(names) > 100:
        return  # the axes count them
    shown = [short(name) for name in names]
    size = 10 if len(names) <= NUMBERED else 4.5
    upright = len(names) <= NUMBERED and max(map(len, shown)) <= 4
    axes.set_xticks(range(len(names)), shown, rotation=0 if upright else 90, fontsize=size)
    axes.set_yticks(range(len(names)), shown, fontsize=size)


def _write_counts(axes: Axes, matrix: Any, shares: Any, names: Sequence[str]) -> dict[str, str]:
    titles = {}
    for (row, column), count in np.ndenumerate(matrix):
        if count:  # an empty cell says zero, and the eye finds the others
            gid, share = f"cell-{row}-{column}", shares[row, column]
            style: Any = {"ha": "center", "va": "center", "fontsize": 9 if count < 10_000 else 7}
            color = "white" if share > 0.5 else INK
            axes.text(column, row, f"{count}", gid=gid, color=color, **style)
            titles[gid] = f"true {names[row]}, predicted {names[column]}: {count}, {share:.1%} of the class"
    return titles


@plot
def reliability(bins: Sequence[Mapping[str, Any]]) -> Drawn:
    """Accuracy over confidence, of which the diagonal is the ideal; below, where the examples are."""
    figure = Figure(figsize=(WIDTH * 0.85, WIDTH * 0.95), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width = bins[0]["high"] - bins[0]["low"]
    total = max(1, sum(one["count"] for one in bins))
    upper.plot([0, 1], [0, 1], color=INK, alpha=0.5, linewidth=1, linestyle=":")
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
def layers(title: str, series: Mapping[str, Points], *, log: bool = True) -> Drawn:
    """A line for each layer over the epochs; of many layers, a map of colours. log: of what is above 0."""
    positive = {name: [(x, y) for x, y in points if y > 0 or not log] for name, points in series.items()}
    positive = {name: points for name, points in positive.items() if points}
    if len(positive) > LINES:
        return _heat(title, positive, log=log), {}
    figure, axes = _figure(WIDTH, HEIGHT + 0.16 * -(-len(positive) // 3), title)
    titles = {}
    for place, (name, points) in enumerate(positive.items()):
        style = {"marker": "o", "markersize": 2.5} if len(points) <= 40 else {}
        axes.plot(*zip(*points, strict=True), label=_ending(name), color=SERIES[place], gid=f"layer-{place}", **style)  # type: ignore[arg-type]
        titles[f"layer-{place}"] = name
    if log and positive:
        _log(axes.yaxis)
    if positive:
        figure.legend(loc="outside lower left", ncols=2 if max(map(len, positive)) > 12 else 3)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, titles


def _heat(title: str, series: Mapping[str, Points], *, log: bool) -> Figure:
    epochs = sorted({x for points in series.values() for x, _ in points})
    grid = np.full((len(series), len(epochs)), np.nan)
    for row, points in enumerate(series.values()):
        for epoch, value in points:
            grid[row, epochs.index(epoch)] = value
    figure, axes = _figure(WIDTH, min(9.0, 1.2 + 0.17 * len(series)), title)
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
        axes.set_yticks(np.arange(len(series)) + 0.5, [_ending(name) for name in series], fontsize=8)
    axes.set(xlabel="epoch", ylabel="" if len(series) <= 48 else "layer, from input to output")
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda at, _: f"{epochs[int(at)]:g}" if 0 <= at < len(epochs) and at == int(at) else "")
    )
    return figure


@plot
def bars(title: str, values: Mapping[str, float], *, unit: str = "") -> Drawn:
    """A bar to the right for each name, the first one at the top."""
    figure, axes = _figure(WIDTH, 0.9 + 0.3 * len(values), title)
    places = range(len(values))
    drawn = axes.barh(list(places), list(values.values()), color=BLUE, height=0.65)
    for place, (bar, (name, value)) in enumerate(zip(drawn, values.items(), strict=True)):
        bar.set_gid(f"bar-{place}")
        axes.annotate(f"{value:.2f}", (value, place), xytext=(3, 0), textcoords="offset points", va="center", gid=name)
    axes.set_yticks(list(places), [short(name, 26) for name in values])
    axes.invert_yaxis()
    axes.set(xlabel=unit, xlim=(0, 1.15 * max([*values.values(), 1e-9])))
    axes.grid(visible=False, axis="y")
    return figure, {f"bar-{place}": f"{name}: {value:.4f}" for place, (name, value) in enumerate(values.items())}


# ---- many runs


@plot
def history(title: str, shown: Sequence[tuple[str, int, float, str, str]], *, mode: str) -> Drawn:
    """What each trial came to, and the best so far.

    shown: (trial, number, value, state, what is shown over it), of which only complete ones count. What is far worse
    than the others stands at the edge: the best are to be told apart.
    """
    figure, axes = _figure(WIDTH * 1.15, HEIGHT, title)
    titles = {}
    heights = dict(zip([point[0] for point in shown], bounded([point[2] for point in shown], mode), strict=True))
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


def bounded(values: Sequence[float], mode: str) -> list[float]:
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
def scatter(names: tuple[str, str], shown: Sequence[tuple[str, float, float, bool, str]]) -> Drawn:
    """Trials by two objectives; shown: (trial, x, y, is it on the Pareto front, what is shown over it)."""
    figure, axes = _figure(title="Pareto front")
    titles = {}
    for gid, best in (("others", False), ("front", True)):
        points = sorted((one for one in shown if one[3] == best), key=lambda one: one[1])
        if points:
            across, up = [point[1] for point in points], [point[2] for point in points]
            axes.scatter(across, up, s=36 if best else 18, color=ORANGE if best else GRAY, gid=gid)
            titles[gid] = [(point[0], point[4]) for point in points]
            if best:
                axes.plot(across, up, color=ORANGE, linewidth=1, alpha=0.6, zorder=1)
    axes.set(xlabel=printable(names[0]), ylabel=printable(names[1]))
    return figure, titles


@plot
def parallel(
    columns: Mapping[str, Sequence[Any]],
    trials: Sequence[str],
    strengths: Sequence[float],
    texts: Sequence[str],
    *,
    log: Collection[str] = (),
) -> Drawn:
    """A line for each trial through all that was chosen for it, to what it came to.

    Args:
        columns: by name, a value for each trial; the last is what they came to. None: the trial has none.
        trials, texts: of each trial its name, and what is shown over its line.
        strengths: 0 to 1, the best the highest: how much of a line is seen; 1 is drawn last, in a colour of its own.
        log: columns that are taken by their logarithms.
    """
    figure, axes = _figure(max(WIDTH * 1.5, 1.4 * len(columns)), 3.4)
    axes.set_axis_off()
    heights = [
        _upright(axes, place, name, *scaled(values, log=name in log))
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


def _upright(
    axes: Axes, place: int, name: str, heights: list[float | None], marks: Sequence[tuple[float, str]]
) -> list[float | None]:
    """Draws an axis with its name and its marks; returns the heights on it."""
    axes.plot([place, place], [0, 1], color=INK, alpha=0.4, linewidth=1)
    axes.text(place, 1.08, short(name, 18), ha="center", fontsize=10)
    for height, text in marks:
        axes.text(place + 0.03, height, short(text, 14), fontsize=8, va="center", alpha=0.85)
    return heights


def scaled(values: Sequence[Any], *, log: bool = False) -> tuple[list[float | None], list[tuple[float, str]]]:
    """Values -> their heights between 0 and 1, and marks (height, text): of a few values each, else five.

    log: by their logarithms. Texts and truths are spread evenly.
    """
    known = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return _scaled(values, known, math.log if log and known and min(known) > 0 else float)
    kinds = sorted(set(map(str, known)))
    height = {kind: (place + 0.5) / len(kinds) for place, kind in enumerate(kinds)}
    marks = [(height[kind], kind) for kind in kinds[:12]]
    return [None if value is None else height[str(value)] for value in values], marks


def _scaled(
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
def spreads(title: str, groups: Mapping[str, Mapping[str, Any]]) -> Drawn:
    """Mean and deviation of each group, the first one at the top; groups: {mean, std, n, min, max} by name."""
    figure, axes = _figure(WIDTH * 1.2, 0.9 + 0.32 * len(groups), title)
    titles = {}
    for place, (name, spread) in enumerate(groups.items()):
        axes.plot([spread["min"], spread["max"]], [place, place], color=GRAY, linewidth=1.2)
        style: Any = {"fmt": "o", "color": BLUE, "elinewidth": 4, "markersize": 6}
        axes.errorbar(spread["mean"], place, xerr=spread["std"] or 0, **style)[0].set_gid(f"group-{place}")
        deviation = f" ± {spread['std']:.4f}" if spread["std"] is not None else ""
        titles[f"group-{place}"] = f"{name}: {spread['mean']:.4f}{deviation}, of {spread['n']}"
    axes.set_yticks(range(len(groups)), [short(name, 26) for name in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    return figure, titles
