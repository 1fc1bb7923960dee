"""Predictions on TensorBoard: the views that a task has made of its samples, confusion matrices and tables."""

import re
import textwrap
from base64 import b64decode
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


MAX_TEXT = 600  # characters shown of an example's text
DPI = 125  # of plots
GREEN, RED = "#1b7f3b", "#c62828"
Json = Any


def views_of(content: Json) -> list[dict[str, Any]]:
    """The views of a samples file; examples.json is a list of examples."""
    if isinstance(content, list):
        return [{"kind": "examples", "items": content}]
    views: list[dict[str, Any]] = content["views"]
    return views


def columns_of(details: Json) -> dict[str, list[Any]] | None:
    """Columns of equal length that a metric has returned beside its numbers; None: they are something else."""
    if not isinstance(details, Mapping) or not details:
        return None
    lengths = {len(column) if isinstance(column, list) else -1 for column in details.values()}
    fits = len(lengths) == 1 and lengths != {-1} and lengths != {0}
    return {str(name): column for name, column in details.items()} if fits else None


# ---- TensorBoard


def write_content(writer: "SummaryWriter", tag: str, content: Json, *, step: int) -> None:
    """Draw each view of a samples file; one that is no picture is a text."""
    for view in views_of(content):
        title = str(view.get("title", ""))
        place = "/".join([tag, *([re.sub(r"\W+", "_", title)] if title else [])])
        if (figure := _figure_of(view)) is not None:
            writer.add_image(place, pixels(figure), step, dataformats="HWC")
        elif text := _markdown_of(view):
            writer.add_text(place, text, step)


def write_details(
    writer: "SummaryWriter", split: str, details: Mapping[str, Json], names: Sequence[str], *, step: int
) -> None:
    """Draw what the metrics of a split have returned beside their numbers."""
    for kind, content in details.items():
        if kind == "confusion":
            known = names if len(names) == len(content) else list(map(str, range(len(content))))
            figure = confusion_figure(content, known, title=split)
            writer.add_image(f"confusion/{split}", pixels(figure), step, dataformats="HWC")
        elif columns := columns_of(content):
            count = len(next(iter(columns.values())))
            rows = names if len(names) == count else list(map(str, range(count)))
            cells = [[row, *(column[place] for column in columns.values())] for place, row in enumerate(rows)]
            writer.add_text(f"{kind}/{split}", _markdown_table(["", *columns], cells), step)


def _figure_of(view: Mapping[str, Any]) -> "Figure | None":
    from train_smarter.report import plot, view_plots  # here: a run without pictures need not wait for matplotlib

    kind, items = view["kind"], view.get("items") or []
    with plot.drawing_style(**{"figure.dpi": DPI}):
        if kind in view_plots.DRAWN:
            return view_plots.DRAWN[kind](dict(view))[0]
        if kind == "images" and items:
            decoded = [[decode_png(image) for image in item["images"]] for item in items]
            return view_plots.draw_images(dict(view), decoded)
    return samples_figure(items) if kind == "examples" and items and "image" in items[0] else None


def _markdown_of(view: Mapping[str, Any]) -> str:
    kind, items = view["kind"], view.get("items") or []
    if kind == "table":
        return _markdown_table(view["columns"], view["rows"])
    if kind == "texts":
        return _markdown_table(["", "text"], [[item["caption"], item["text"]] for item in items])
    return samples_table(items) if kind == "examples" and items and "text" in items[0] else ""


def _markdown_table(columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    lines = [[*map(_cell, columns)], ["---"] * len(columns), *([*map(_cell, row)] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) > 1 else f"{value:.4g}"
    return _escape_markdown(str(value))


def _escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line: signs become character references."""
    return re.sub(r"[^\w ]|_", lambda sign: f"&#{ord(sign[0])};" if sign[0] != "\n" else " ", text)


# ---- what they look like


def confusion_figure(matrix: Sequence[Sequence[int]], names: Sequence[str], *, title: str) -> "Figure":
    """The report's confusion matrix as a picture; matrix: (K, K) counts, row = true class, column = predicted."""
    from train_smarter.report import plot, run_plots

    counts: Any = np.array(matrix)
    heading = f"{title}: {counts.trace() / max(1, counts.sum()):.2%} of {counts.sum():,} right"
    with plot.drawing_style(**{"figure.dpi": DPI}):
        return run_plots.draw_confusion(counts, names, title=heading, static=True)[0]


def samples_figure(samples: Sequence[Mapping[str, Any]]) -> "Figure":
    """A grid of images, green where the model is right and red where it is not; samples: entries of examples.json."""
    from matplotlib.figure import Figure

    from train_smarter.report import plot

    columns = min(len(samples), max(4, round(len(samples) ** 0.5)))
    rows = -(-len(samples) // columns)
    with plot.drawing_style():
        figure = Figure(figsize=(1.35 * columns, 1.7 * rows), layout="constrained")
        for number, sample in enumerate(samples, 1):
            axes = figure.add_subplot(rows, columns, number)
            axes.imshow(decode_png(sample["image"]), cmap="gray", vmin=0, vmax=255)
            axes.set_axis_off()
            guess, true = (plot.ellipsize(sample[name], 12) for name in ("predicted", "true"))
            text = f"{guess} ({sample['probability']:.2f})\ntrue: {true}"
            axes.set_title(text, fontsize=8, color=GREEN if sample["right"] else RED, loc="center")
    return figure


def samples_table(samples: Sequence[Mapping[str, Any]]) -> str:
    """The same in Markdown, for texts."""
    lines = ["| | predicted | true | text |", "|---|---|---|---|"]
    for sample in samples:
        guess, true = _escape_markdown(sample["predicted"]), _escape_markdown(sample["true"])
        shown = _escape_markdown(textwrap.shorten(sample["text"], MAX_TEXT, placeholder=" …"))
        lines.append(
            f"| {'✓' if sample['right'] else '✗'} | {guess} ({sample['probability']:.2f}) | {true} | {shown} |"
        )
    return "\n".join(lines)


def decode_png(text: str) -> Any:
    """A PNG file in base64 -> (H, W) or (H, W, 3) uint8."""
    from PIL import Image

    with Image.open(BytesIO(b64decode(text))) as picture:
        return np.array(picture)


def pixels(figure: "Figure") -> Any:
    """Drawn without pyplot, which keeps every figure alive: (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from train_smarter.report import plot

    canvas = FigureCanvasAgg(figure)
    with plot.drawing_style():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
