"""What does the model confuse, and what do its mistakes look like?"""

import re
import textwrap
import warnings
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from train_smarter.callbacks import board
from train_smarter.callbacks.board import note_left_out
from train_smarter.data.base import Batch
from train_smarter.model.base import Classifier, unfit
from train_smarter.record import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

NUMBERED = 25  # classes up to which a confusion matrix has its counts written into it
NAMED = 100  # classes up to which it has their names at its sides
TEXT = 600  # characters shown of an example's text on TensorBoard
LONG = 4000  # ... and kept of it in examples.json
SIDE = 128  # pixels, the longer side of an image there
GREEN, RED = "#1b7f3b", "#c62828"


class Pictures(Callback):
    """After a test run: each split's confusion matrix, and sample predictions of the last one (usually test).

    For TensorBoard, if the run has it, images are shown as a grid; texts, of a datamodule that has `text_of`
    (tokens (T,) -> words), as a table. For the report, each is an entry of examples.json.

    Args:
        samples: predictions shown: half of them mistakes, the surest first, half of them right, the least sure first;
            where one kind is short, the other fills up.
        folder: the run's; None: no examples.json.
    """

    def __init__(self, *, samples: int = 16, folder: str | None = None) -> None:
        self.samples = samples
        self.folder = None if folder is None else Path(folder)
        self.sieve = Sieve(samples)
        self.unfit = ""  # why the model has no such predictions

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self.sieve, self.unfit = Sieve(self.samples), ""

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Every process keeps samples of its own share."""
        self.unfit = self.unfit or unfit(pl_module, outputs, batch)
        if not self._wanted(trainer) or self.unfit:
            return
        assert isinstance(pl_module, Classifier)
        if dataloader_idx == len(pl_module.tested) - 1:
            inputs, labels = batch
            predicted, probabilities = pl_module.predicted(outputs), pl_module.probabilities(outputs.float())
            self.sieve.add(inputs, labels, predicted, probabilities, batch_idx=batch_idx, rank=trainer.global_rank)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._wanted(trainer) or not isinstance(pl_module, Classifier):
            return
        samples = self.sieve.chosen(_gathered(trainer, self.sieve.kept))
        if self.unfit:
            if trainer.is_global_zero:
                note_left_out(self, self.unfit)
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        names = list(getattr(data, "names", None) or map(str, range(pl_module.num_classes)))
        if self.folder is not None and trainer.is_global_zero:
            split = list(pl_module.tested)[-1]
            content = [{"split": split, **example(sample, names, data)} for sample in samples]
            write_json(self.folder / "examples.json", content)
        for writer in board.writers(trainer):
            for split, tally in pl_module.tested.items():
                picture = pixels(confusion_figure(tally.total, names, title=split))
                writer.add_image(f"confusion/{split}", picture, trainer.global_step, dataformats="HWC")
            if samples:
                tag = f"predictions/{list(pl_module.tested)[-1]}"
                _show(writer, tag, samples, names, data, step=trainer.global_step)

    def _wanted(self, trainer: Trainer) -> bool:
        """The same answer in every process."""
        return self.folder is not None or board.wanted(trainer)


def _show(
    writer: "SummaryWriter", tag: str, samples: "list[Sample]", names: list[str], data: Any, *, step: int
) -> None:
    """Texts as text, images as an image; other inputs have no picture."""
    if hasattr(data, "text_of"):
        writer.add_text(tag, samples_table(samples, names, data.text_of), step)
    elif samples[0].input.ndim == 3:
        picture = pixels(samples_figure(samples, names, **_normalization(data)))
        writer.add_image(tag, picture, step, dataformats="HWC")


def _normalization(data: Any) -> dict[str, Any]:
    """A number per channel, as the images were normalised by."""
    return {"mean": getattr(data, "mean", [0.0]), "std": getattr(data, "std", [1.0])}


def example(sample: "Sample", names: Sequence[str], data: Any) -> dict[str, Any]:
    """An entry of examples.json: what the model made of an input, and the input as an image or a text, if it is one."""
    said = {"true": names[sample.true], "predicted": names[sample.predicted]}
    entry = {**said, "probability": sample.probability, "right": sample.right}
    if hasattr(data, "text_of"):
        return entry | {"text": textwrap.shorten(data.text_of(sample.input), LONG, placeholder=" …")}
    if sample.input.ndim == 3:
        return entry | {"image": png(_visible(sample.input, **_normalization(data)))}
    return entry


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
    place: tuple[int, int, int]

    @property
    def right(self) -> bool:
        return self.true == self.predicted

    @property
    def rank(self) -> tuple[float, tuple[int, int, int]]:
        """Sorts the most telling first: the surest mistakes, the least sure hits."""
        return (self.probability if self.right else -self.probability), self.place


class Sieve:
    """Keeps the `count` most telling mistakes and as many hits while batches pass, never a whole split."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.kept: list[Sample] = []

    def add(
        self, inputs: Tensor, labels: Tensor, predicted: Tensor, probabilities: Tensor, *, batch_idx: int, rank: int
    ) -> None:
        """inputs: (B, ...); labels, predicted: (B,) int64; probabilities: (B, K)."""
        sure = probabilities.gather(1, predicted[:, None])[:, 0]  # (B,)
        right = predicted == labels
        for kind, score in ((~right, sure), (right, -sure)):
            # Stable: equals stay in the data set's order.
            best = score.masked_fill(~kind, -torch.inf).argsort(descending=True, stable=True)
            best = best[: min(self.count, int(kind.sum()))]
            columns = (best, labels[best], predicted[best], sure[best])
            found = zip(inputs[best].cpu(), *(column.tolist() for column in columns), strict=True)
            # Cloned: a view would keep, and send to other processes, all that it is a view of.
            self.kept += [Sample(x.clone(), true, guess, p, (batch_idx, i, rank)) for x, i, true, guess, p in found]
        self.kept = self._best(self.kept)

    def _best(self, samples: list[Sample]) -> list[Sample]:
        wrong, right = self._sorted(samples)
        return wrong[: self.count] + right[: self.count]

    def chosen(self, samples: list[Sample]) -> list[Sample]:
        """`count` of them: mistakes and hits half and half, as far as there are enough of both."""
        wrong, right = self._sorted(samples)
        mistakes = min(len(wrong), max(self.count // 2, self.count - len(right)))
        return wrong[:mistakes] + right[: self.count - mistakes]

    @staticmethod
    def _sorted(samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
        ordered = sorted(samples, key=lambda sample: sample.rank)
        return [s for s in ordered if not s.right], [s for s in ordered if s.right]


def _gathered(trainer: Trainer, samples: list[Sample]) -> list[Sample]:
    """The samples of all processes, in every process: all have to call it."""
    return [sample for share in board.gathered(trainer, samples) for sample in share]


# ---- what they look like


def confusion_figure(matrix: Tensor, names: Sequence[str], *, title: str) -> "Figure":
    """Counts with the share of each true class, which is the colour, too; a colour bar alone where there are many.

    matrix: (K, K) counts, row = true class, column = predicted.
    """
    counts = matrix.numpy()
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    short, numbered = [_short(name, 16) for name in names], len(names) <= NUMBERED
    side = 0.45 * len(names) if numbered else 8.0  # inches
    margin = 1.0 + 0.08 * max(map(len, short))
    figure = _figure(max(4.0, side + margin), max(3.5, side + margin))
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    accuracy = counts.trace() / max(1, counts.sum())
    axes.set_title(f"{title}: {accuracy:.2%} of {counts.sum():,} right", fontsize=10, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    _name_classes(axes, short)
    if numbered:
        _write_counts(axes, counts, shares)
    else:
        figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    return figure


def _name_classes(axes: Any, names: Sequence[str]) -> None:
    if len(names) > NAMED:
        return  # the axes count them
    style = {"fontsize": 9 if len(names) <= NUMBERED else 5, "parse_math": False}
    upright = len(names) <= NUMBERED and max(map(len, names)) <= 5
    axes.set_xticks(range(len(names)), names, rotation=0 if upright else 90, **style)
    axes.set_yticks(range(len(names)), names, **style)


def _write_counts(axes: Any, counts: Any, shares: Any) -> None:
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
    figure = _figure(1.35 * columns, 1.7 * rows)
    for number, sample in enumerate(samples, 1):
        axes = figure.add_subplot(rows, columns, number)
        axes.imshow(_visible(sample.input, mean, std), cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
        guess, true = (_short(names[label], 12) for label in (sample.predicted, sample.true))
        said = f"{guess} ({sample.probability:.2f})\ntrue: {true}"
        axes.set_title(said, fontsize=8, color=GREEN if sample.right else RED, parse_math=False)
    return figure


def _visible(image: Tensor, mean: Any, std: Any) -> Any:
    """Normalised (C, H, W) -> pixels in 0..1: (H, W, 3) where there are three channels or more, else (H, W)."""
    mean, std = (torch.tensor(value, dtype=torch.float).view(-1, 1, 1) for value in (mean, std))
    shown = (image.float() * std + mean).clamp(0, 1)
    return (shown[:3].permute(1, 2, 0) if len(shown) >= 3 else shown[0]).numpy()


def samples_table(samples: Sequence[Sample], names: Sequence[str], text_of: Callable[[Tensor], str]) -> str:
    """The same in Markdown, for texts; `text_of` turns tokens (T,) into words."""
    lines = ["| | predicted | true | text |", "|---|---|---|---|"]
    for sample in samples:
        guess, true = _literal(names[sample.predicted]), _literal(names[sample.true])
        shown = _literal(textwrap.shorten(text_of(sample.input), TEXT, placeholder=" …"))
        lines.append(f"| {'✓' if sample.right else '✗'} | {guess} ({sample.probability:.2f}) | {true} | {shown} |")
    return "\n".join(lines)


def _literal(text: str) -> str:
    """Text that Markdown shows as it is: signs become character references."""
    return re.sub(r"[^\w\s]|_", lambda sign: f"&#{ord(sign[0])};", text)


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _figure(width: float, height: float) -> "Figure":
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
