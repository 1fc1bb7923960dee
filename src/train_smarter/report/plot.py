"""The report's plots: SVG that takes its colours and its font from the page around it, and needs nothing else.

Names and texts may be a stranger's: matplotlib escapes them, and takes none for a formula.
"""

import functools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from train_smarter.sanitize import escape_controls

FOREGROUND = "#010203"  # stands for the page's own colour of text, dark or light
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
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), FOREGROUND),
    "grid.color": FOREGROUND,
}

Points = Sequence[tuple[float, float]]
# What is shown over a part of a plot that has a gid; over each point of a cloud, with the trial that it is.
Titles = Mapping[str, str | Sequence[tuple[str, str]]]
Draw = tuple[Figure, Titles]


@contextmanager
def drawing_style(**settings: Any) -> Iterator[None]:
    """Draw in the report's style and these settings of matplotlib, without LaTeX and complaints about missing letters.

    Never LaTeX: a matplotlibrc in the current folder, which may be a stranger's, could select it.
    """
    with rc_context(STYLE | {"text.usetex": False} | settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a page has it
        yield


def plot(draw: Callable[..., Draw]) -> Callable[..., Markup]:
    """Makes a function that draws one that returns SVG; it takes a `name`, unique in a page, and an `alt` text, too."""

    @functools.wraps(draw)
    def drawn(*args: Any, name: str, alt: str, **options: Any) -> Markup:
        with drawing_style(**{"svg.hashsalt": name}):
            figure, titles = draw(*args, **options)
            file = StringIO()
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return _inline_svg(file.getvalue(), name, alt, titles)

    return drawn


def _inline_svg(text: str, name: str, alt: str, titles: Titles) -> Markup:
    """A drawing without its head, with ids that no other has, in the page's colours."""
    box = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', text)
    assert box is not None, "matplotlib writes a viewBox"
    body = text[text.index("<defs") : text.rindex("</svg>")].replace(FOREGROUND, "currentColor")
    first, *groups = body.split('<g id="')
    body = "".join([first, *(_add_titles(group, titles) for group in groups)])
    body = re.sub(r'(\bid="|\bhref="#|\burl\(#)', rf"\g<1>{name}-", body)
    width = f"max-width:{float(box[1]) * SCALE:.0f}px"
    head = f'<svg id="{name}" {box[0]} role="img" aria-label="{escape(escape_controls(alt))}" style="{width}">'
    return Markup(f"{head}\n{body}</svg>")  # matplotlib has escaped its texts


def _add_titles(group: str, titles: Titles) -> str:
    """A part of a drawing, from the quote of its gid on, with what is shown over it."""
    gid, _, rest = group.partition('">')
    told = titles.get(gid)
    if told is None:
        return f'<g id="{group}'
    if isinstance(told, str):
        trial = f'" data-trial="{gid.removeprefix(TRIAL)}' if gid.startswith(TRIAL) else ""
        return f'<g id="{gid}{trial}">{_escape_title(told)}{rest}'
    points = iter(told)
    return f'<g id="{gid}">' + re.sub(r"<use ([^>]*)/>", lambda use: _point_title(use[1], *next(points)), rest)


def _point_title(attributes: str, trial: str, text: str) -> str:
    return f'<use data-trial="{escape(trial)}" {attributes}>{_escape_title(text)}</use>'


def _escape_title(text: str) -> str:
    return f"<title>{escape(escape_controls(text))}</title>"


def new_figure(width: float = WIDTH, height: float = HEIGHT, title: str = "") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(escape_controls(title))
    return figure, axes


def ellipsize(name: object, most: int = 18) -> str:
    text = escape_controls(name)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def log_scale(axis: Any) -> None:
    """Ticks of a logarithmic axis as plain numbers: the usual ones are formulas."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
