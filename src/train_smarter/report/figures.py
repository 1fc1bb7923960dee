"""Figures of confusion matrices and sample predictions for TensorBoard."""

import re
import textwrap
import warnings
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MAX_COUNTS = 25  # classes up to which a confusion matrix has its counts written into it
MAX_NAMES = 100  # classes up to which it has their names at its sides
MAX_TEXT = 600  # characters shown of an example's text on TensorBoard
SIDE = 128  # pixels, the longer side of an image there
GREEN, RED = "#1b7f3b", "#c62828"


def png(image: Any) -> str:
    """Pixels in 0..1, (H, W) or (H, W, 3) -> a PNG file in base64, of `SIDE` pixels at most."""
    from PIL import Image

    picture = Image.fromarray((image * 255).round().astype("uint8"))
    picture.thumbnail((SIDE, SIDE))
    file = BytesIO()
    picture.save(file, "PNG", optimize=True)
    return b64encode(file.getvalue()).decode()


# ---- which examples


@dataclass(frozen=True)
class Sample:
    """An example and what the model made of it.

    input: as the model saw it, (C, H, W) or (T,); true, predicted: classes; probability: the model's, of `predicted`;
    place: orders examples as the data set does, whatever the number of processes.
    """

    input: Tensor
    true: int
    predicted: int
    probability: float
    position: tuple[int, int, int]

    @property
    def right(self) -> bool:
        return self.true == self.predicted

    @property
    def sort_key(self) -> tuple[float, tuple[int, int, int]]:
        """Sorts the most telling first: the surest mistakes, the least sure hits."""
        return (self.probability if self.right else -self.probability), self.position


# ---- what they look like


def confusion_figure(matrix: Tensor, names: Sequence[str], *, title: str) -> "Figure":
    """Counts with the share of each true class, which is the colour, too; a colour bar alone where there are many.

    matrix: (K, K) counts, row = true class, column = predicted.
    """
    counts = matrix.numpy()
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    short, numbered = [_shorten(name, 16) for name in names], len(names) <= MAX_COUNTS
    side = 0.45 * len(names) if numbered else 8.0  # inches
    margin = 1.0 + 0.08 * max(map(len, short))
    figure = _new_figure(max(4.0, side + margin), max(3.5, side + margin))
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    accuracy = counts.trace() / max(1, counts.sum())
    axes.set_title(f"{title}: {accuracy:.2%} of {counts.sum():,} right", fontsize=10, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    _label_axes(axes, short)
    if numbered:
        _annotate_counts(axes, counts, shares)
    else:
        figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    return figure


def _label_axes(axes: Any, names: Sequence[str]) -> None:
    if len(names) > MAX_NAMES:
        return  # the axes count them
    style = {"fontsize": 9 if len(names) <= MAX_COUNTS else 5, "parse_math": False}
    upright = len(names) <= MAX_COUNTS and max(map(len, names)) <= 5
    axes.set_xticks(range(len(names)), names, rotation=0 if upright else 90, **style)
    axes.set_yticks(range(len(names)), names, **style)


def _annotate_counts(axes: Any, counts: Any, shares: Any) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:  # an empty cell says zero, and the eye finds the others
            color = "white" if shares[row, column] > 0.5 else "black"
            text = f"{count:,}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)


def samples_figure(samples: Sequence[Sample], names: Sequence[str], *, mean: Any, std: Any) -> "Figure":
    """A grid of images, green where the model is right and red where it is not.

    mean, std: a number per channel, as the images were normalised by.
    """
    columns = min(len(samples), max(4, round(len(samples) ** 0.5)))
    rows = -(-len(samples) // columns)
    figure = _new_figure(1.35 * columns, 1.7 * rows)
    for number, sample in enumerate(samples, 1):
        axes = figure.add_subplot(rows, columns, number)
        axes.imshow(to_visible(sample.input, mean, std), cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
        guess, true = (_shorten(names[label], 12) for label in (sample.predicted, sample.true))
        said = f"{guess} ({sample.probability:.2f})\ntrue: {true}"
        axes.set_title(said, fontsize=8, color=GREEN if sample.right else RED, parse_math=False)
    return figure


def to_visible(image: Tensor, mean: Any, std: Any) -> Any:
    """Normalised (C, H, W) -> pixels in 0..1: (H, W, 3) where there are three channels or more, else (H, W)."""
    mean, std = (torch.tensor(value, dtype=torch.float).view(-1, 1, 1) for value in (mean, std))
    shown = (image.float() * std + mean).clamp(0, 1)
    return (shown[:3].permute(1, 2, 0) if len(shown) >= 3 else shown[0]).numpy()


def samples_table(samples: Sequence[Sample], names: Sequence[str], text_of: Callable[[Tensor], str]) -> str:
    """The same in Markdown, for texts; `text_of` turns tokens (T,) into words."""
    lines = ["| | predicted | true | text |", "|---|---|---|---|"]
    for sample in samples:
        guess, true = _escape_markdown(names[sample.predicted]), _escape_markdown(names[sample.true])
        shown = _escape_markdown(textwrap.shorten(text_of(sample.input), MAX_TEXT, placeholder=" …"))
        lines.append(f"| {'✓' if sample.right else '✗'} | {guess} ({sample.probability:.2f}) | {true} | {shown} |")
    return "\n".join(lines)


def _escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is: signs become character references."""
    return re.sub(r"[^\w\s]|_", lambda sign: f"&#{ord(sign[0])};", text)


def _shorten(name: str, letters: int) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _new_figure(width: float, height: float) -> "Figure":
    from matplotlib import rcParams  # here: a run without pictures need not wait for it
    from matplotlib.figure import Figure

    rcParams["text.usetex"] = False  # a matplotlibrc in the current folder may be a stranger's
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def pixels(figure: "Figure") -> Any:
    """Drawn without pyplot, which keeps every figure alive: (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a class name's letter: drawn as a box
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
