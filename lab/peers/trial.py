"""(e) A plain Optuna loop, as the article has it, on given points: over a DataLoader, or on tensors in memory."""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import optuna
import torch

from my_project.model.mlp import MLP
from peers import plain, tight
from peers.task import Parts, Task, prepare
from train_smarter import Classification
from train_smarter.speed import startup


def study(*, points: Sequence[dict[str, Any]], epochs: int, way: str) -> tuple[float, float]:
    """Seconds of the whole search, data read once, and the best validation accuracy."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        began = time.perf_counter()
        parts = prepare(Task("mnist_mlp", epochs, folder, overrides=["scheduler=none"]))
        if way == "tight":
            startup.configure_process(parts.cfg.num_threads)
        search = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=1))
        for point in points:
            search.enqueue_trial(point)
        search.optimize(partial(objective, parts=parts, way=way), n_trials=len(points))
        return time.perf_counter() - began, float(search.best_value)


def objective(trial: optuna.Trial, *, parts: Parts, way: str) -> float:
    """Trains with what the trial suggests; the best validation accuracy of its epochs."""
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    batch_size = trial.suggest_categorical("batch_size", [32, 64, 128])
    loop = loop_of(parts, way=way, lr=lr, batch_size=batch_size)
    best = 0.0
    for epoch in range(parts.task.epochs):
        loop.epoch(epoch)
        best = max(best, loop.parts.accuracy(loop.network, "val"))
    return best


def loop_of(parts: Parts, *, way: str, lr: float, batch_size: int) -> "plain.Loop | tight.Loop":
    torch.manual_seed(int(parts.cfg.seed))
    shape: Sequence[int] = parts.cfg.data.shape
    model = MLP(shape=shape, task=Classification(num_classes=10), optimizer=partial(torch.optim.Adam, lr=lr))
    parts.data.batch_size = batch_size
    parts.cfg.optimizer.lr = lr
    given = dataclasses.replace(parts, model=model)
    return plain.Loop(given) if way == "plain" else tight.Loop(given)
