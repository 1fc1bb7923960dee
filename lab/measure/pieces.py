"""Where the time of a step goes, by Lightning's own profiler around each piece of it."""

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from measure.process import call
from measure.section import Options, Section
from measure.table import Goal, Ratio, spread, table

EXPERIMENTS = {"cnn": "cifar10_cnn", "mlp": "mnist_mlp", "lstm": "imdb_lstm"}
STEPS, WARM = 400, 50  # steps of a measurement, of which so many warm up
PIECES = (
    "batch assembly",
    "augmentation, normalisation",
    "forward, loss",
    "metrics",
    "backward",
    "clipping",
    "optimizer",
    "Lightning and its callbacks",
)
# What Lightning's profiler calls them, by a part of the name.
ACTIONS = {
    "batch assembly": "train_dataloader_next",
    "augmentation, normalisation": "on_after_batch_transfer",
    "forward, loss": ".training_step",
    "backward": ".backward",
    "clipping": "configure_gradient_clipping",
    "optimizer": ".optimizer_step",  # not on_before_optimizer_step
}


def augment(options: Options) -> Section:
    """The share of batch assembly, augmentation and normalisation in the CNN's step."""
    shares = []
    for _ in range(options.rounds):
        pieces = call("measure.pieces:step", experiment="cifar10_cnn")[0]
        shares.append((pieces["batch assembly"] + pieces["augmentation, normalisation"]) / pieces["step"])
    what = "augmentation and batch assembly, share of the CNN's step"
    text = (
        f"Medians over {STEPS - WARM} steps of `cifar10_cnn` under Lightning's profiler: fetching a batch, and "
        "all that happens to it on the device, against the whole step. A process for each round."
    )
    return Section("Augmentation", text, [Goal(what, 0.05, spread(shares), percent=True)])


def profile(options: Options) -> Section:
    """A step of each experiment in pieces: median milliseconds, and their share."""
    columns = {}
    for name, experiment in EXPERIMENTS.items():
        runs = [call("measure.pieces:step", experiment=experiment)[0] for _ in range(min(options.rounds, 3))]
        columns[name] = {piece: spread([run[piece] for run in runs]) for piece in (*PIECES, "step")}
    text = (
        f"Medians over {STEPS - WARM} steps, everything logged as by default, under Lightning's profiler, which makes "
        "a step some tens of microseconds longer and books that on Lightning. Milliseconds and share of the step."
    )
    return Section("Where the time goes", text, tables=[shares_table(columns)])


def shares_table(columns: Mapping[str, Mapping[str, Ratio]]) -> str:
    """A row a piece, a column an experiment."""
    head = ["piece", *(f"`{EXPERIMENTS[name]}`" for name in columns)]
    rows = [[piece, *(cell(column, piece) for column in columns.values())] for piece in (*PIECES, "step")]
    return table(head, rows)


def cell(column: Mapping[str, Ratio], piece: str) -> str:
    seconds, whole = column[piece].median, column["step"].median
    return f"{1000 * seconds:.3f} ms, {seconds / whole:.0%}"


def step(*, experiment: str, overrides: Sequence[str] = ()) -> dict[str, float]:
    """Median seconds of each piece of a step, and of the `step` as a whole, in a process of its own."""
    from lightning import Callback, seed_everything

    from peers.task import Task
    from train_smarter.config.build import build
    from train_smarter.speed import startup

    class Clock(Callback):
        ends: list[float] = []  # noqa: RUF012 (one object)

        def on_train_batch_end(self, *_: object) -> None:
            self.ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        length = [f"trainer.limit_train_batches={STEPS}", "trainer.limit_val_batches=1"]
        cfg = Task(experiment, 1, folder).compose("debug=profiler", *length, *overrides)
        seed_everything(cfg.seed, verbose=False)
        startup.configure_process(cfg.num_threads)
        clock = Clock()
        run = build(cfg, clock)
        run.trainer.fit(run.model, datamodule=run.data)
        recorded = run.trainer.profiler.recorded_durations  # type: ignore[attr-defined]
        between = [end - began for began, end in zip(clock.ends, clock.ends[1:], strict=False)]
        pieces = pieces_of(recorded, statistics.median(between[WARM:]))
        counting = metrics(run.model.task, run.data.batch_size)
        return {**pieces, "metrics": counting, "forward, loss": pieces["forward, loss"] - counting}


def pieces_of(recorded: Mapping[str, Sequence[float]], whole: float) -> dict[str, float]:
    """What the profiler has recorded, by piece; the optimizer's record holds its closure, and the rest is Lightning."""
    found = {}
    for piece, part in ACTIONS.items():
        durations = [times for name, times in recorded.items() if part in name and len(times) > WARM]
        found[piece] = sum(statistics.median(times[WARM:]) for times in durations)
    within = ("forward, loss", "backward", "clipping")
    found["optimizer"] -= sum(found[piece] for piece in within)
    found["Lightning and its callbacks"] = whole - sum(found.values())
    return {**found, "step": whole}


def metrics(task: Any, batch_size: int) -> float:
    """Seconds that the running metrics take a step, timed by themselves: the profiler sees it within the forward."""
    import torch

    from train_smarter.task.classification import Classification

    assert isinstance(task, Classification)
    metric, loss, labels = task.new_metric(), torch.tensor(1.0), torch.arange(batch_size) % task.num_classes
    began = time.perf_counter()
    for _ in range(STEPS):
        metric.append(loss, batch_size, (labels, labels))
    metric.flush()
    return (time.perf_counter() - began) / STEPS


SECTIONS = {"augment": augment, "profile": profile}
