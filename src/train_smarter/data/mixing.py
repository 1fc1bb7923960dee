"""MixUp and CutMix: mix each image of a batch with another one, and its target with that one's.

Sources: Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018; Yun et al., CutMix: Regularization Strategy to
Train Strong Classifiers with Localizable Features, 2019. Nothing here waits for a GPU.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from train_smarter.data.augment import Augmentation, randint, to_float
from train_smarter.data.image_boxes import paste_boxes
from train_smarter.data.image_moves import pieces
from train_smarter.data.split import is_classes
from train_smarter.errors import UserError

QUANTILES = 4096  # of a beta distribution; between them, it is interpolated


@dataclass(frozen=True, kw_only=True)
class Mixing(Augmentation):
    """Mixes images and targets of a batch; the last step of the augmentation, whatever its place in the config.

    The share that an image keeps of itself is drawn from a beta distribution, for every image on its own, as by timm's
    `mode="elem"`; torchvision draws one share for the batch. The other image is the one half a batch away.

    Args:
        alpha: both parameters of the beta distribution: 1 draws every share alike, less mostly shares close to 0 or 1.
        p: probability that an image is mixed.
    """

    alpha: float = 0
    p: float = 1
    MAXIMA: ClassVar[dict[str, float]] = {"alpha": 10, "p": 1}

    def __bool__(self) -> bool:
        return self.alpha > 0 and self.p > 0

    def mix(self, images: Tensor, others: Tensor, share: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix images (B, C, H, W) with their partners among `others`.

        Args:
            others: the batch before any mixing.
            share: (B,), what each image is to keep of itself; 1: it stays as it is.

        Returns:
            The images, and the shares that they have kept, (B,).
        """
        raise NotImplementedError

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return mix_batch(images, None, [self], generator)[0]


@dataclass(frozen=True, kw_only=True)
class MixUp(Mixing):
    """The weighted mean of two images."""

    def mix(
        self,
        images: Tensor,
        others: Tensor,
        share: Tensor,
        generator: torch.Generator,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        return blend(images, others.roll(partner_shift(others), 0), share), share


@dataclass(frozen=True, kw_only=True)
class CutMix(Mixing):
    """A box of the image with the pixels of the other one; the shares are those of the areas."""

    def mix(self, images: Tensor, others: Tensor, share: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        height, width = images.shape[2:]
        row, column = (randint(side, images, generator) for side in (height, width))
        boxes = cutmix_boxes(share, row, column, size=(height, width))
        kept = 1 - boxes[:, 2] * boxes[:, 3] / (height * width)
        return paste_boxes(images, boxes, others, shift=partner_shift(others)), kept


def mix_batch(
    images: Tensor, targets: Any, mixing: Iterable[Mixing], generator: torch.Generator, *, num_classes: int = 0
) -> tuple[Tensor, Any]:
    """Images (B, C, H, W), uint8 or floats in 0..1, and their targets, mixed: see `mix_targets`.

    Of several mixings, each image gets one, with the same probability.
    """
    in_order = sorted(mixing, key=lambda each: isinstance(each, MixUp))  # bytes stay bytes until they are blended
    others, share = images, torch.ones(len(images), device=images.device)
    choice = randint(len(in_order), images, generator) if len(in_order) > 1 else torch.zeros_like(share).long()
    for place, each in enumerate(in_order):
        mixed = (torch.rand(len(images), generator=generator, device=images.device) < each.p) & (choice == place)
        drawn = sample_beta(each.alpha, images, generator).where(mixed, 1.0)
        images, kept = each.mix(images, others, drawn, generator)
        share = share * kept
    return images, mix_targets(targets, share, num_classes=num_classes)


def partner_shift(batch: Tensor) -> int:
    """How far before an image its partner is: half a batch, which is the same process's of any even number of them."""
    return len(batch) // 2


def blend(images: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """share * images + (1 - share) * partners, floats. images, partners: (B, C, H, W); share: (B,)."""
    weight, step = share.view(-1, 1, 1, 1), pieces(images)
    if images.device.type != "cpu" or step >= len(images):
        return torch.lerp(to_float(partners), to_float(images), weight)
    # A few at a time: their floats are read again from the CPU's cache.
    blended = torch.empty_like(images, dtype=torch.float)
    for own, other, part, new in zip(*(each.split(step) for each in (images, partners, weight, blended)), strict=True):
        torch.lerp(to_float(other), to_float(own), part, out=new)
    return blended


def cutmix_boxes(share: Tensor, row: Tensor, column: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Boxes of the area 1 - share about a middle, cut off at the image's edges: (B, 4) int64, as `paste_boxes` takes.

    Args:
        share: (B,); row, column: (B,) int64, the middles.
        size: height and width of the images.
    """
    sides = []
    for middle, side in ((row, size[0]), (column, size[1])):
        half = (0.5 * (1 - share).sqrt() * side).long()
        start = (middle - half).clamp(min=0)
        sides.append((start, (middle + half).clamp(max=side) - start))
    return torch.stack([sides[0][0], sides[1][0], sides[0][1], sides[1][1]], 1)


def mix_targets(targets: Any, share: Tensor, *, num_classes: int) -> Any:
    """Targets of images that keep these shares (B,) of themselves: (B, K) floats of classes and labels, else numbers.

    Args:
        targets: classes (B,), labels or numbers (B, ...), or None.
        num_classes: K; 0: integers are numbers.

    Raises:
        UserError: there is no mean of such targets.
    """
    if targets is None:
        return None
    if not isinstance(targets, Tensor) or targets.ndim > 2:
        given = tuple(targets.shape) if isinstance(targets, Tensor) else type(targets).__name__
        raise UserError(f"mixup and cutmix mix classes and labels, and these targets are {given}: switch them off")
    if is_classes(targets) and num_classes:
        targets = targets[:, None] == torch.arange(num_classes, device=targets.device)
    values, weight = targets.float(), share.view(-1, *[1] * (targets.ndim - 1))
    return torch.lerp(values.roll(partner_shift(values), 0), values, weight)


def sample_beta(alpha: float, images: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) draws from Beta(alpha, alpha), by its quantiles: torch draws from it with its global generator alone."""
    table = _quantiles(alpha, images.device)
    place = torch.rand(len(images), generator=generator, device=images.device) * QUANTILES
    low = place.long()
    return torch.lerp(table[low], table[low + 1], place - low)


@cache
def _quantiles(alpha: float, device: torch.device) -> Tensor:
    """The quantiles 0, 1/n, 2/n, ..., 1 of Beta(alpha, alpha), (n + 1,), from the integral of its density."""
    # x = v^power / 2: of a density that is infinite at x = 0, as alpha < 1 has it, equal steps of v have equal areas.
    power = max(1.0, 1 / alpha)
    v = np.linspace(0, 1, 16 * QUANTILES + 1)[1:]
    x = v**power / 2
    with np.errstate(divide="ignore"):
        density = np.exp((power * alpha - 1) * np.log(v) + (alpha - 1) * np.log1p(-x))
    area = np.concatenate([[0], np.cumsum(density)])
    half = np.interp(np.linspace(0, 1, QUANTILES // 2 + 1), area / area[-1], np.concatenate([[0], x]))
    return torch.from_numpy(np.concatenate([half, 1 - half[-2::-1]])).float().to(device)
