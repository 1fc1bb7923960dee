"""The plots of `train find=lr` and `train find=batch_size`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train_smarter.report.plot import BLUE, ORANGE, drawing_style, log_scale, new_figure
from train_smarter.run.files import naming

DPI = 150


def write_plot(file: Path, found: Mapping[str, Any]) -> None:
    """Write a PNG file; found: the content of find.json."""
    draw = {"lr": _draw_losses, "batch_size": _draw_sizes}[found["quantity"]]
    with drawing_style(), naming(file):
        figure = draw(found)
        figure.savefig(file, format="png", dpi=DPI)


def _draw_losses(found: Mapping[str, Any]) -> Any:
    rates, losses = zip(*found["losses"], strict=True)
    figure, axes = new_figure(5.5, 3.4, found["override"])
    axes.plot(rates, losses, color=BLUE, label="train/loss")
    axes.axvline(found["value"], color=ORANGE, linestyle=":", label="falls fastest")
    axes.set(xlabel="learning rate", xscale="log", ylim=_limits(losses))
    axes.legend()
    return figure


def _limits(losses: tuple[float, ...]) -> tuple[float, float]:
    """A loss that explodes would flatten the rest of the curve."""
    low, first = min(losses), losses[0]
    return low - 0.1 * abs(first - low), max(first, low) + 0.5 * abs(first - low)


def _draw_sizes(found: Mapping[str, Any]) -> Any:
    sizes, speeds = zip(*((size, speed) for size, speed, _ in found["sizes"] if speed is not None), strict=True)
    figure, axes = new_figure(5.5, 3.4, found["override"])
    axes.plot(sizes, speeds, "o-", color=BLUE)
    axes.axvline(found["value"], color=ORANGE, linestyle=":")
    axes.set(xlabel="batch size", ylabel="examples/s", ylim=(0, None))
    log_scale(axes.xaxis)
    return figure
