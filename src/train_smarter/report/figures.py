"""Figures of confusion matrices and sample predictions for TensorBoard."""

import re
import textwrap
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


MAX_TEXT = 600  # characters shown of an example's text on TensorBoard
SIDE = 128  # pixels, the longer side of an image there
DPI = 125  # of a confusion matrix
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
    """The report's confusion matrix as a picture; matrix: (K, K) counts, row = true class, column = predicted."""
    from train_smarter.report import plot, run_plots  # here: a run without pictures need not wait for matplotlib

    counts: Any = matrix.numpy()
    heading = f"{title}: {counts.trace() / max(1, counts.sum()):.2%} of {counts.sum():,} right"
    with plot.drawing_style(**{"figure.dpi": DPI}):
        return run_plots.draw_confusion(counts, names, title=heading, static=True)[0]


def samples_figure(samples: Sequence[Sample], names: Sequence[str], *, mean: Any, std: Any) -> "Figure":
    """A grid of images, green where the model is right and red where it is not.

    mean, std: a number per channel, as the images were normalised by.
    """
    from matplotlib.figure import Figure

    from train_smarter.report import plot

    columns = min(len(samples), max(4, round(len(samples) ** 0.5)))
    rows = -(-len(samples) // columns)
    with plot.drawing_style():
        figure = Figure(figsize=(1.35 * columns, 1.7 * rows), layout="constrained")
        for number, sample in enumerate(samples, 1):
            axes = figure.add_subplot(rows, columns, number)
            axes.imshow(to_visible(sample.input, mean, std), cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
            guess, true = (plot.ellipsize(names[label], 12) for label in (sample.predicted, sample.true))
            text = f"{guess} ({sample.probability:.2f})\ntrue: {true}"
            axes.set_title(text, fontsize=8, color=GREEN if sample.right else RED, loc="center")
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


def pixels(figure: "Figure") -> Any:
    """Drawn without pyplot, which keeps every figure alive: (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from train_smarter.report import plot

    canvas = FigureCanvasAgg(figure)
    with plot.drawing_style():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
