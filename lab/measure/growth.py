"""How time and memory grow with the data and with the parameters."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure.process import ROOT, call
from measure.section import Options, Section
from measure.table import table

PLOT = ROOT / "docs" / "growth.png"
IMAGES = (6_250, 12_500, 25_000, 50_000)  # of CIFAR-10's shape: 1, 2, 4 and 8 times
WIDTHS = (1258, 2516, 5032, 10064)  # of the MLP's hidden layer: about 1, 2, 4 and 8 million parameters
DIGITS = 16_000  # of MNIST's shape


def growth(_: Options) -> Section:
    """Each size in a process of its own; noise of the right shape, so that memory is that of the data alone."""
    data = [measure("cifar10_cnn", images, []) for images in IMAGES]
    parameters = [measure("mnist_mlp", DIGITS, [f"model.widths=[{width}]"]) for width in WIDTHS]
    plot(data, parameters, PLOT)
    sizes = [f"{times}x: {images:,} images" for times, images in zip((1, 2, 4, 8), IMAGES, strict=True)]
    counts = [f"{point['parameters'] / 1e6:.1f} million parameters" for point in parameters]
    rows = [
        [name, f"{point['seconds']:.2f} s", f"{point['seconds'] / first['seconds']:.2f}", f"{point['peak']:.0f} MiB"]
        for names, points in ((sizes, data), (counts, parameters))
        for name, point, first in zip(names, points, [points[0]] * len(points), strict=True)
    ]
    text = (
        f"The second epoch of `cifar10_cnn` on noise of CIFAR-10's shape, and of `mnist_mlp` with one hidden layer of "
        f"{WIDTHS[0]:,} to {WIDTHS[-1]:,} features on {DIGITS:,} examples of noise; peak memory is that of the "
        "process, imports included. A process each, once.\n\n![Time and memory against data and parameters](growth.png)"
    )
    return Section("Growth", text, tables=[table(("size", "an epoch", "times the smallest", "peak memory"), rows)])


def measure(experiment: str, examples: int, overrides: Sequence[str]) -> dict[str, float]:
    """seconds of an epoch, peak (MiB) of its process, number of parameters."""
    point, process = call("measure.growth:second_epoch", experiment=experiment, examples=examples, overrides=overrides)
    print(f"  {experiment} {examples} {' '.join(overrides)}: {point['seconds']:.2f} s, {process.peak / 2**20:.0f} MiB")
    return {**point, "peak": process.peak / 2**20}


def second_epoch(*, experiment: str, examples: int, overrides: Sequence[str]) -> dict[str, float]:
    """Trains two epochs on noise, with everything logged as by default."""
    from lightning import seed_everything

    from peers.task import Task, count
    from train_smarter.callbacks.epoch_logger import EpochLogger
    from train_smarter.config.build import build
    from train_smarter.speed import startup

    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        cfg = Task(experiment, 2, folder).compose("trainer.limit_val_batches=1", "data.val_fraction=0.1", *overrides)
        seed_everything(cfg.seed, verbose=False)
        startup.configure_process(cfg.num_threads)
        journal = EpochLogger(Path(folder))
        run = build(cfg, journal)
        feed(run.data, examples)
        run.trainer.fit(run.model, datamodule=run.data)
        return {"seconds": journal.seconds[1], "parameters": count(run.model)}


def feed(data: Any, examples: int) -> None:
    """Lets a data set of images read noise, so many training examples of it, and little to validate and test on."""
    import torch

    from train_smarter.data.examples import Examples, RawDataset

    def noise(count: int) -> Examples:
        images = torch.randint(256, (count, *data.shape), dtype=torch.uint8)
        return Examples(images, torch.arange(count) % data.num_classes)

    names = [str(number) for number in range(data.num_classes)]
    source = RawDataset(names, train=noise(examples), val=noise(500), test=noise(500))
    data.download, data.read = lambda: None, lambda: source


def plot(data: Sequence[dict[str, float]], parameters: Sequence[dict[str, float]], file: Path) -> None:
    """Two panels: against the data, against the parameters; time on the left axis, memory on the right."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    counts = [point["parameters"] / 1e6 for point in parameters]
    for panel, points, sizes, label in (
        (panels[0], data, [images / 1000 for images in IMAGES[: len(data)]], "thousand images (CNN)"),
        (panels[1], parameters, counts, "million parameters (MLP)"),
    ):
        panel.plot(sizes, [point["seconds"] for point in points], "o-", color="tab:blue")
        panel.set(xlabel=label, ylim=(0, None), xlim=(0, None))
        panel.set_ylabel("seconds an epoch", color="tab:blue")
        beside = panel.twinx()
        beside.plot(sizes, [point["peak"] for point in points], "s--", color="tab:orange")
        beside.set_ylim(0, None)
        beside.set_ylabel("peak memory, MiB", color="tab:orange")
    figure.savefig(file, dpi=90)
    plt.close(figure)


SECTIONS = {"growth": growth}
