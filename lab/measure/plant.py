"""Faults, planted in a run's data or network before it is trained."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from train_smarter.config.build import Components
from train_smarter.data.examples import Batch, Examples, SplitName
from train_smarter.fit.module import Model

Splits = dict[SplitName, Examples]
SEED = 7  # of what is drawn to plant a fault
BAD_BATCH, BAD_EPOCH = 3, 1  # where a broken pixel stands


def plant(run: Components, plan: Mapping[str, Any]) -> None:
    """Changes a run that has been built and not begun.

    plan: `keep`, `keep_val`, `keep_test`: examples that are left of a split; `thin`: {class: examples of it that are
        left in train}; `mislabel`: share of the labels of train and validation that are drawn anew; `shift`: what
        happens to validation inputs, of SHIFTS; `pixel`: the value of one pixel in one batch; `wait`: seconds before
        each training batch; `activation`: what replaces each ReLU; `weights`: a factor on them; `bias`: of all layers
        but the last; `nan_weight`: true.
    """
    network = {name: value for name, value in plan.items() if name in NETWORK}
    for name, value in network.items():
        with torch.no_grad():
            NETWORK[name](run.model, value)
    _plant_in_examples(run, {name: value for name, value in plan.items() if name in EXAMPLES})
    _plant_in_batches(run, plan.get("pixel"), plan.get("wait", 0.0))


# ---- examples


def _plant_in_examples(run: Components, plan: Mapping[str, Any]) -> None:
    load = run.data.load

    def planted() -> None:
        load()
        for name, change in EXAMPLES.items():  # in this order
            if name in plan:
                run.data.examples = change(dict(run.data.examples), plan[name])

    run.data.load = planted


def _keep(splits: Splits, count: int, *, split: SplitName) -> Splits:
    examples = splits[split]
    generator = torch.Generator().manual_seed(SEED)
    index = torch.randperm(len(examples), generator=generator)[: int(count)]
    return splits | {split: examples.take(index.sort().values)}


def _thin(splits: Splits, classes: Mapping[int, int]) -> Splits:
    train = splits["train"]
    left = torch.ones(len(train), dtype=torch.bool)
    for label, count in classes.items():
        left[torch.nonzero(train.targets == int(label)).flatten()[int(count) :]] = False
    return splits | {"train": train.take(torch.nonzero(left).flatten())}


def _mislabel(splits: Splits, share: float) -> Splits:
    generator = torch.Generator().manual_seed(SEED)
    changed = dict(splits)
    for name in ("train", "val"):
        examples = splits[name]
        classes = int(examples.targets.max()) + 1
        drawn = torch.randint(classes, examples.targets.shape, generator=generator)
        chosen = torch.rand(examples.targets.shape, generator=generator) < share
        changed[name] = Examples(examples.inputs, torch.where(chosen, drawn, examples.targets))
    return changed


def _invert(images: Tensor) -> Tensor:
    return 255 - images


def _noise(images: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randint(-60, 60, images.shape, generator=generator)
    return (images.long() // 3 + noise).clamp(0, 255).to(torch.uint8)


def _channels(images: Tensor) -> Tensor:
    return images.flip(1).contiguous(memory_format=torch.channels_last)


def _unknown(tokens: Tensor) -> Tensor:
    chosen = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(SEED)) < 0.6
    return torch.where(chosen & (tokens > 1), torch.ones_like(tokens), tokens)


SHIFTS = {"invert": _invert, "noise": _noise, "channels": _channels, "unknown": _unknown}


def _shift(splits: Splits, kind: str) -> Splits:
    val = splits["val"]
    return splits | {"val": Examples(SHIFTS[kind](val.inputs), val.targets)}


EXAMPLES: dict[str, Any] = {
    "keep": lambda splits, count: _keep(splits, count, split="train"),
    "keep_val": lambda splits, count: _keep(splits, count, split="val"),
    "keep_test": lambda splits, count: _keep(splits, count, split="test"),
    "thin": _thin,
    "mislabel": _mislabel,
    "shift": _shift,
}


# ---- batches


def _plant_in_batches(run: Components, pixel: float | None, wait: float) -> None:
    if pixel is None and not wait:
        return
    after = run.data.on_after_batch_transfer

    def planted(batch: Batch, dataloader_idx: int) -> Batch:
        inputs, labels = after(batch, dataloader_idx)
        if run.trainer.training:
            time.sleep(wait)
            here = (run.trainer.current_epoch, run.trainer.fit_loop.batch_idx + 1)
            if pixel is not None and here == (BAD_EPOCH, BAD_BATCH):
                inputs[0].view(-1)[0] = float(pixel)
        return inputs, labels

    run.data.on_after_batch_transfer = planted


# ---- the network


def _activation(model: Model, name: str) -> None:
    for module in list(model.modules()):
        for key, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, key, getattr(nn, name)())


def _weights(model: Model, factor: float) -> None:
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(factor)


def _bias(model: Model, value: float) -> None:
    layers = nn.Linear | nn.Conv2d | nn.BatchNorm2d  # batch norm would remove the bias of the layer before it
    biases = [module.bias for module in model.modules() if isinstance(module, layers)]
    for bias in biases[:-1]:
        if bias is not None:
            bias.fill_(value)


def _nan_weight(model: Model, planted: bool) -> None:
    if planted:
        next(p for p in model.parameters() if p.ndim > 1)[-1] = float("nan")


NETWORK: dict[str, Any] = {"activation": _activation, "weights": _weights, "bias": _bias, "nan_weight": _nan_weight}
