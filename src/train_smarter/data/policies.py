"""RandAugment and TrivialAugment: operations that are drawn for every image of a batch on its own."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar

import torch
from torch import Tensor

from train_smarter.data.augment import Augmentation, randint, to_float
from train_smarter.data.examples import index_rows
from train_smarter.data.image_moves import CoordinateMap, apply_maps
from train_smarter.data.policy_ops import MOVES, PIXEL_OPS

OPS = ("Identity", *MOVES, *PIXEL_OPS)
BINS = 31  # of magnitudes
Change = Callable[[Tensor, Tensor], Tensor]  # images or masks (B, C, H, W) and magnitudes (B,) -> the same, changed


@dataclass(frozen=True)
class PolicyStep:
    """One operation an image.

    Attributes:
        ops: (B,) int64, places in `OPS`.
        magnitudes: (B,) float.
    """

    ops: Tensor
    magnitudes: Tensor

    def change_images(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W); floats in 0..1 are rounded to 256 levels."""
        if images.dtype != torch.uint8:
            return to_float(self.change_images((images * 255).round_().to(torch.uint8)))
        return self._change(images, _moves(fill=0) | dict(PIXEL_OPS))

    def move_masks(self, masks: Tensor, *, fill: int) -> Tensor:
        """Masks (B, C, H, W), moved as the images are."""
        return self._change(masks, _moves(fill=fill))

    def _change(self, images: Tensor, changes: Mapping[str, Change]) -> Tensor:
        changed = images.clone()
        for name, change in changes.items():
            chosen = self.ops == OPS.index(name)
            if not selects(images):
                changed = torch.where(chosen.view(-1, 1, 1, 1), change(images, self.magnitudes), changed)
            elif len(index := chosen.nonzero()[:, 0]):
                rows = change(index_rows(images, index), self.magnitudes[index]).permute(0, 2, 3, 1)
                changed.permute(0, 2, 3, 1).numpy()[index.numpy()] = rows.numpy()  # a tenth of torch's time
        return changed


def selects(images: Tensor) -> bool:
    """Whether an operation is applied to the chosen images, or to all: to select some would wait for a GPU."""
    return images.device.type == "cpu"


def _moves(*, fill: int) -> dict[str, Change]:
    return {name: partial(_move, make_map=make_map, fill=fill) for name, make_map in MOVES.items()}


def _move(
    images: Tensor, magnitudes: Tensor, *, make_map: Callable[[Tensor, int, int], CoordinateMap], fill: int
) -> Tensor:
    return apply_maps(images, [make_map(magnitudes, images.shape[2], images.shape[3])], fill=fill)


@dataclass(frozen=True, kw_only=True)
class Policy(Augmentation):
    """Steps of one operation an image. Masks move along; uint8 images stay uint8, floats are rounded to 256 levels."""

    TAKES_BYTES: ClassVar[bool] = True

    def sample_steps(self, images: Tensor, generator: torch.Generator) -> Iterator[PolicyStep]:
        """Draw the steps for images (B, C, H, W)."""
        raise NotImplementedError

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for step in self.sample_steps(images, generator):
            images = step.change_images(images)
        return images


@dataclass(frozen=True, kw_only=True)
class TrivialAugment(Policy):
    """One operation of a random magnitude an image: torchvision's `TrivialAugmentWide`.

    Source: Müller and Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation, 2021.

    Args:
        p: probability that an image is changed.
    """

    p: float = 0
    MAXIMA: ClassVar[dict[str, float]] = {"p": 1}

    def sample_steps(self, images: Tensor, generator: torch.Generator) -> Iterator[PolicyStep]:
        ops, places = (randint(count, images, generator) for count in (len(OPS), BINS))
        ops = ops.where(torch.rand(len(images), generator=generator, device=images.device) < self.p, 0)
        yield PolicyStep(ops, _signed(_wide_space(images.device)[ops, places], ops, images, generator))


@dataclass(frozen=True, kw_only=True)
class RandAugment(Policy):
    """Several operations of one magnitude, one after the other: torchvision's `RandAugment`.

    Source: Cubuk et al., RandAugment: Practical automated data augmentation with a reduced search space, 2019.

    Args:
        num_ops: operations an image.
        magnitude: their strength, 0 to 30.
    """

    num_ops: int = 0
    magnitude: int = 9
    MAXIMA: ClassVar[dict[str, float]] = {"num_ops": 16, "magnitude": BINS - 1}

    def __bool__(self) -> bool:
        return self.num_ops > 0

    def sample_steps(self, images: Tensor, generator: torch.Generator) -> Iterator[PolicyStep]:
        height, width = images.shape[2:]
        space = _rand_space(height, width, images.device)[:, self.magnitude]
        for _ in range(self.num_ops):
            ops = randint(len(OPS), images, generator)
            yield PolicyStep(ops, _signed(space[ops], ops, images, generator))


# ---- magnitudes, (operations, BINS)


def _signed(magnitudes: Tensor, ops: Tensor, images: Tensor, generator: torch.Generator) -> Tensor:
    """Magnitudes (B,), half of those that may be negative negated."""
    negative = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    first, last = OPS.index("ShearX"), OPS.index("Sharpness")
    return torch.where(negative & (ops >= first) & (ops <= last), -magnitudes, magnitudes)


@cache
def _wide_space(device: torch.device) -> Tensor:
    colors = dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), 0.99)
    moves = {"ShearX": 0.99, "ShearY": 0.99, "TranslateX": 32, "TranslateY": 32, "Rotate": 135}
    return _space(colors | moves, dropped_bits=6).to(device)


@cache
def _rand_space(height: int, width: int, device: torch.device) -> Tensor:
    colors = dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), 0.9)
    shifts = {"TranslateX": 150 / 331 * width, "TranslateY": 150 / 331 * height}
    return _space(colors | shifts | {"ShearX": 0.3, "ShearY": 0.3, "Rotate": 30}, dropped_bits=4).to(device)


def _space(largest: dict[str, float], *, dropped_bits: int) -> Tensor:
    """Even steps from 0 to the largest magnitude of an operation; 0 where there is none."""
    rows = {name: torch.linspace(0, most, BINS) for name, most in largest.items()}
    rows["Posterize"] = (8 - torch.arange(BINS) / ((BINS - 1) / dropped_bits)).round()
    rows["Solarize"] = torch.linspace(1, 0, BINS)
    return torch.stack([rows.get(name, torch.zeros(BINS)) for name in OPS])
