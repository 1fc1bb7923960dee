"""What an untrained model makes of the first batch: its loss against chance, and the time of a step."""

import copy
import time
from typing import Any

import torch
from torch import Tensor

from train_smarter.data.base import Data
from train_smarter.data.examples import first_tensor, move
from train_smarter.fit.module import Model
from train_smarter.inspection.sampling import take_sample

SAMPLE_BYTES = 16_000_000  # of the training examples by which chance is measured

Content = dict[str, Any]


def measure_step(model: Model, data: Any, batch: Any) -> Content:
    """The loss at initial weights, that of the best constant prediction, and the seconds of a step without optimizer.

    The model stays as it is. Its task has learned from the training targets.
    """
    device = first_tensor(batch[0]).device
    trained = copy.deepcopy(model)
    trained.compile_mode = None  # it would take longer than all the rest
    trained.trainer = data.trainer
    trained.setup("fit")  # loads pretrained weights; some networks are made there
    trained.to(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        with torch.no_grad():
            loss = _loss(trained.eval(), batch)
        seconds = min(_time_step(trained.train(), batch) for _ in range(2))
        chance = _chance_loss(trained, data, batch)
    return {"initial": float(loss), "chance": chance, "step_seconds": seconds}


def _loss(model: Model, batch: Any) -> Tensor:
    return model.task.loss(model(batch[0]), model.task.targets(batch))


def _time_step(model: Model, batch: Any) -> float:
    start = time.perf_counter()
    loss = _loss(model, batch)
    if loss.requires_grad:
        loss.backward()
    loss.item()  # waits for a GPU
    return time.perf_counter() - start


def _chance_loss(model: Model, data: Any, batch: Any) -> float | None:
    """On a sample of the training examples, as the model gets them; of a LightningDataModule, on the batch."""
    if isinstance(data, Data):
        sample = take_sample(data.examples["train"], SAMPLE_BYTES)
        raw = move(data.examples["train"].read(sample.index), model.device)
        data.trainer, trainer = None, data.trainer  # without augmentation
        batch = data.on_after_batch_transfer(raw, 0)
        data.trainer = trainer
    return model.task.chance_loss(model.task.targets(batch))
