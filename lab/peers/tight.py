"""The tightest plain PyTorch loop on tensors in memory: the limit that Lightning could reach.

The same numbers as ours: order, augmentation, initial weights, rates, clipping. What it keeps is a sum of losses and a
count of hits, both on the device. The tricks that a config can switch follow ours, and are on where it has no switch.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn

from my_project.model.lstm import LSTM
from peers.task import Parts, Task, prepare
from peers.worker import Gate, take_part
from train_smarter.data.augment import GeometricAugmentation, to_float
from train_smarter.data.examples import index_rows
from train_smarter.data.image_data import ImageData
from train_smarter.data.image_moves import apply_maps
from train_smarter.data.loader import derive_seed
from train_smarter.speed import startup


class Loop:
    """A training loop over the parts of an experiment, an epoch at a time."""

    def __init__(self, parts: Parts) -> None:
        self.parts, cfg, device = parts, parts.cfg, parts.task.device
        train = parts.data.examples["train"]
        self.inputs, self.targets = train.inputs.to(device), train.targets.to(device)
        self.targets = self.targets.float() if parts.binary else self.targets
        self.layout = torch.channels_last if switch(cfg, "channels_last") else torch.contiguous_format
        self.network = network_of(parts).to(device).to(memory_format=self.layout)
        self.trained = list(self.network.parameters())
        self.update = updater(self.trained, parts.optimizer(self.network, fused=switch(cfg, "fused")))
        self.batches = parts.batches()
        self.rates = parts.rates(len(self.batches))
        self.assemble = assembler(parts, layout=self.layout)
        if isinstance(parts.data, ImageData) and not parts.data.augment:  # normalised once, not in every epoch
            self.inputs = torch.cat([self.assemble(some, 0) for some in self.inputs.split(1000)])
            self.assemble = as_it_is
        self.clip = clipper(self.trained, cfg.trainer.gradient_clip_val)
        self.step = 0
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []  # counted once an epoch
        self.loss, self.hits = torch.zeros((), device=device), torch.zeros((), device=device, dtype=torch.long)

    def epoch(self, number: int) -> None:
        self.network.train()
        self.loss.zero_()
        self.hits.zero_()
        self.batches.set_epoch(number)
        for index in self.batches.iter_on(self.targets.device):
            self.train(index)
        self.count()

    def count(self) -> None:
        """Adds up what the steps have left."""
        losses, logits, targets = zip(*self.seen, strict=True)
        sizes = torch.tensor([len(batch) for batch in targets], device=self.loss.device)
        self.loss.add_((torch.stack(losses) * sizes).sum())
        self.hits.add_((self.parts.classification.predict_classes(torch.cat(logits)) == torch.cat(targets)).sum())
        self.seen.clear()

    def train(self, index: Tensor) -> Tensor:
        """A step on the examples at `index`; returns their loss."""
        logits = self.network(self.assemble(index_rows(self.inputs, index), self.step))
        targets = self.targets.index_select(0, index)
        if self.parts.binary:
            loss = F.binary_cross_entropy_with_logits(logits[:, 0], targets, reduction="sum") / len(targets)
        else:
            loss = F.cross_entropy(logits, targets)
        loss.backward()
        self.clip()
        self.update(self.rates[self.step])
        for parameter in self.trained:
            parameter.grad = None
        self.seen.append((loss.detach(), logits.detach(), targets))
        self.step += 1
        return loss.detach()


def switch(cfg: DictConfig, name: str) -> bool:
    """A trick as the config has it, wherever it stands; on where the config has no such switch."""
    found = [cfg[group][name] for group in ("trainer", "model", "optimizer", "data") if name in cfg[group]]
    return bool(found[0]) if found and found[0] is not None else True


def assembler(parts: Parts, *, layout: torch.memory_format) -> Callable[[Tensor, int], Tensor]:
    """A function of a batch as it lies in memory and the step's number: what the network receives."""
    data = parts.data
    if not isinstance(data, ImageData):
        return as_it_is
    augment = list(data.augment.values())
    moves = [operation for operation in augment if isinstance(operation, GeometricAugmentation)]
    bytes_alone = moves == augment  # pixels that only move stay bytes up to the end
    factor = 255 if bytes_alone else 1
    scale, shift = normaliser(data, factor, torch.device(parts.task.device))

    def assemble(images: Tensor, step: int) -> Tensor:
        if augment:
            generator = torch.Generator(images.device).manual_seed(derive_seed(data.seed, step, 0))
            if bytes_alone:
                images = apply_maps(images, [motion.sample_map(images, generator) for motion in moves])
            else:
                for operation in augment:
                    images = operation(
                        images if isinstance(operation, GeometricAugmentation) else to_float(images), generator
                    )
        return torch.addcmul(shift, images.to(torch.float, memory_format=layout), scale)

    return assemble


def as_it_is(batch: Tensor, step: int) -> Tensor:  # noqa: ARG001
    return batch


def normaliser(data: ImageData, most: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """What pixels of 0..most are multiplied by, and what is added, (C, 1, W) each, in the images' layout."""
    mean, std = (torch.tensor(v, device=device) for v in (data.mean, data.std))
    scale, shift = (each.expand(data.shape[2], -1).contiguous().T[:, None] for each in (1 / (most * std), -mean / std))
    return scale, shift


def clipper(parameters: Sequence[nn.Parameter], most: float | None) -> Callable[[], None]:
    """Scales all gradients together down to a norm of `most`, as `clip_grad_norm_` does."""

    def clip() -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp_(max=1.0))

    return clip if most is not None else lambda: None


def updater(parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> Callable[[float], None]:
    """A step of the optimizer at a given rate; a fused Adam's is its kernel, without what `step` asks around it."""
    (group,) = optimizer.param_groups
    if type(optimizer) is not torch.optim.Adam or not group["fused"] or group["amsgrad"] or group["maximize"]:

        def step(rate: float) -> None:
            group["lr"] = rate
            optimizer.step()

        return step
    weights = [parameter.detach() for parameter in parameters]
    means, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    steps = [torch.zeros((), device=weight.device) for weight in weights]
    beta1, beta2 = group["betas"]
    constant = {"beta1": beta1, "beta2": beta2, "weight_decay": group["weight_decay"], "eps": group["eps"]}

    def kernel(rate: float) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            weights, gradients, means, squares, [], steps, lr=rate, amsgrad=False, maximize=False, **constant
        )

    return kernel


def network_of(parts: Parts) -> nn.Module:
    """Our layers in our initial state, without a LightningModule around them."""
    model = parts.model
    if isinstance(model, LSTM):
        return Reader(model)
    layers = [child for child in model.children() if isinstance(child, nn.Sequential)]
    return nn.Sequential(*(layer for sequence in layers for layer in sequence))


class Reader(nn.Module):
    """Our LSTM of one layer and direction on texts padded on the right, which need no sorting of their words."""

    def __init__(self, model: LSTM) -> None:
        super().__init__()
        assert model.directions == 1
        assert model.pooling == "last"
        assert len(model.layers) == 1
        self.embedding, self.dropout, self.head = model.embedding, model.dropout, model.head
        self.reader: nn.Module = model.layers[0][0]  # type: ignore[index]

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T), of any integer type -> logits (B, K) or (B, 1)."""
        last = (tokens != 0).sum(1).clamp_(min=1).sub_(1)  # (B,)
        features = self.reader(self.dropout(self.embedding(tokens.T.int())))[0]  # (T, B, D)
        logits: Tensor = self.head(features[last, torch.arange(len(last), device=last.device)])
        return logits


def run(task: Task, gate: Gate) -> None:
    parts = prepare(task)
    startup.configure_process(parts.cfg.num_threads)
    loop = Loop(parts)
    take_part(
        task,
        gate,
        epoch=loop.epoch,
        accuracy=lambda: parts.accuracy(loop.network),
        parameters=parts.parameters,
    )
