"""The article's own way: a plain PyTorch loop over a DataLoader, per-sample transforms, `.item()` at every step."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision import datasets, transforms

from my_project.data.cifar10 import CIFAR10
from my_project.data.mnist import MNIST
from peers.task import Parts, Task, prepare
from peers.tight import network_of
from peers.worker import Gate, take_part
from train_smarter.data.examples import Examples
from train_smarter.data.image_data import ImageData
from train_smarter.data.split import stratified_split


class Photos(Dataset[tuple[Tensor, int]]):
    """CIFAR-10 as torchvision's class serves it, from the examples of the training split."""

    def __init__(self, examples: Examples, transform: transforms.Compose) -> None:
        self.images = examples.inputs.permute(0, 2, 3, 1).contiguous().numpy()  # (N, H, W, C)
        self.targets, self.transform = examples.targets.tolist(), transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.targets[index]


def dataset(parts: Parts) -> Dataset:
    """The training split, the way tutorials read this kind of data."""
    data = parts.data
    if not isinstance(data, ImageData):
        train = data.examples["train"]
        return TensorDataset(train.inputs.long(), train.targets)
    numbers = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    if isinstance(data, MNIST):
        official = datasets.MNIST(parts.cfg.paths.data, train=True, transform=transforms.Compose(numbers))
        rest, _ = stratified_split(official.targets, data.val_fraction, seed=data.split_seed + 1)
        return Subset(official, rest.tolist())
    augment = [transforms.RandomRotation(10), transforms.RandomHorizontalFlip()]
    return Photos(data.examples["train"], transforms.Compose([transforms.ToPILImage(), *augment, *numbers]))


def validation(parts: Parts) -> Dataset:
    """The validation split, without augmentation."""
    val = parts.data.examples["val"]
    if not isinstance(parts.data, ImageData):
        return TensorDataset(val.inputs.long(), val.targets)
    numbers = [transforms.ToTensor(), transforms.Normalize(parts.data.mean, parts.data.std)]
    return Photos(val, transforms.Compose([transforms.ToPILImage(), *numbers]))


def workers(parts: Parts) -> int:
    """Two processes where there are pictures to turn, as the article has it; none for the rest."""
    return 2 if isinstance(parts.data, CIFAR10) else 0


def in_the_articles_order(network: nn.Module) -> nn.Module:
    """Each ReLU before its pool, which gives the same result."""
    layers = list(network.children())
    for place in range(len(layers) - 1):
        if isinstance(layers[place], nn.MaxPool2d) and isinstance(layers[place + 1], nn.ReLU):
            layers[place], layers[place + 1] = nn.ReLU(), layers[place]
    return nn.Sequential(*layers)


class Loop:
    """The loop of a tutorial."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.device = parts, parts.task.device
        network: nn.Module = parts.model if not parts.images else in_the_articles_order(network_of(parts))
        # As torch has it if nothing is said: the layout, and an optimizer that is not fused.
        self.network = network.to(self.device).to(memory_format=torch.contiguous_format)
        self.loader: DataLoader = DataLoader(
            dataset(parts), batch_size=parts.data.batch_size, shuffle=True, num_workers=workers(parts)
        )
        self.optimizer = parts.optimizer(self.network, fused=None)
        self.scheduler = parts.scheduler(self.optimizer, len(self.loader))

    def epoch(self, number: int) -> None:  # noqa: ARG002 (every epoch is alike)
        self.network.train()
        loss_sum, hits, seen = 0.0, 0, 0
        for inputs, labels in self.loader:
            loss, right = self.train(inputs.to(self.device), labels.to(self.device))
            loss_sum, hits, seen = loss_sum + loss * len(labels), hits + right, seen + len(labels)
        print(f"loss {loss_sum / seen:.4f}, accuracy {hits / seen:.4f}")

    def train(self, inputs: Tensor, labels: Tensor) -> tuple[float, int]:
        self.optimizer.zero_grad()
        logits = self.network(inputs)
        loss = self.criterion(logits, labels)
        loss.backward()
        if (most := self.parts.cfg.trainer.gradient_clip_val) is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), most)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        return loss.item(), int((self.parts.classification.predict_classes(logits) == labels).sum().item())

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.parts.binary:
            return F.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
        return F.cross_entropy(logits, labels)


def run(task: Task, gate: Gate) -> None:
    loop = Loop(prepare(task))
    parts = loop.parts
    take_part(task, gate, epoch=loop.epoch, accuracy=lambda: parts.accuracy(loop.network), parameters=parts.parameters)
