"""The article's search, by `train -m` with Optuna's sweeper, against plain Optuna loops on the same trials."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from measure.process import call, run
from measure.section import Options, Section
from measure.table import Goal, ratios, spread, table

TRIALS = 5  # a tenth of the article's
EPOCHS = 10
SPACE = ["optimizer.lr=tag(log,interval(1e-4,1e-1))", "data.batch_size=choice(32,64,128)"]
IMPORTS = "import torch, torchvision, optuna"
PLAIN = "plain Optuna loop, DataLoader"  # the article's, which the goal is about
WAYS = {"plain": PLAIN, "tight": "plain Optuna loop on tensors in memory, which keeps no checkpoint, curve or log"}


def search(options: Options) -> Section:
    """Rounds of three: ours, a plain loop as in the article, a tight one."""
    times: dict[str, list[float]] = {"ours": [], **{way: [] for way in WAYS}}
    points: list[dict[str, Any]] = []
    for number in range(min(options.rounds, 3)):
        seconds, drawn = ours()
        assert not number or drawn == points, "the seeded sampler drew other points than the last time"
        points = drawn
        times["ours"].append(seconds)
        for way in WAYS:
            (inner, best), _ = call("peers.trial:study", points=points, epochs=EPOCHS, way=way)
            # Our peers' modules import more than such a script would: its own imports are counted instead.
            times[way].append(inner + run([sys.executable, "-c", IMPORTS]).seconds)
            print(f"  {way}: {times[way][-1]:.1f} s, best {best:.4f}; ours: {seconds:.1f} s")
    against = {way: ratios(times["ours"], times[way]) for way in WAYS}
    goals = [Goal(f"the article's search against a {PLAIN}", 1.15, against["plain"])]
    rows = [["`train -m`", str(spread(times["ours"])), "1"]]
    rows += [[says, str(spread(times[way])), str(against[way])] for way, says in WAYS.items()]
    return Section("Search", described(points), goals, [table(("search", "seconds", "ours / its time"), rows)])


def described(points: list[dict[str, Any]]) -> str:
    drawn = "; ".join(f"{point['lr']:.2g} and {point['batch_size']}" for point in points)
    return (
        f"`train -m` with Optuna's sweeper: the MLP on MNIST, {TRIALS} trials of {EPOCHS} epochs, TPE with a seed, "
        f"without pruning, early stopping and the final test; everything else is on, checkpoints and TensorBoard among "
        f"it. The loops get the same points (learning rate and batch size: {drawn}) and evaluate the validation split "
        "after each epoch, as ours does. Wall time of whole processes, in turns."
    )


def ours() -> tuple[float, list[dict[str, Any]]]:
    """Seconds of our search, and the points that it tried."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        optuna = ["search=default", "hydra/sweeper/pruner=none"]
        study = [f"hydra.sweeper.n_trials={TRIALS}"]
        length = [f"trainer.max_epochs={EPOCHS}", "scheduler=none", "callbacks.early_stopping=null", "test=false"]
        words = ["experiment=mnist_mlp", "trainer=cpu", *length, f"paths.logs={folder}", *SPACE]
        measured = run([sys.executable, "-m", "train_smarter.commands.train", "-m", *optuna, *study, *words])
        jobs = sorted(Path(folder).glob("train/multiruns/*/*/.hydra/config.yaml"), key=lambda f: int(f.parts[-3]))
        return measured.seconds, [point(job) for job in jobs]


def point(config: Path) -> dict[str, Any]:
    """The learning rate and batch size of a job."""
    from omegaconf import OmegaConf

    cfg = OmegaConf.load(config)
    return {"lr": float(cfg.optimizer.lr), "batch_size": int(cfg.data.batch_size)}


SECTIONS = {"search": search}
