"""What image data sets share: pixels become numbers on the device, augmented in training, normalised always."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train_smarter.data.augment import CoordinateMap, GeometricAugmentation, apply_maps
from train_smarter.data.base import Data
from train_smarter.data.class_folders import expand_input
from train_smarter.data.examples import Batch, Examples, RawInput, SplitName
from train_smarter.data.image_io import MODES, decode
from train_smarter.data.loader import derive_seed
from train_smarter.errors import UserError

log = logging.getLogger(__name__)


# Images (B, C, H, W), floats in 0..1, and a generator, both on one device -> images of the same shape.
Augmentation = Callable[[Tensor, torch.Generator], Tensor]


class ImageData(Data):
    """Images (N, C, H, W) as uint8 in memory; a model receives floats.

    Args:
        shape: [C, H, W], held against the real images in `setup`.
        mean, std: the model sees (pixel / 255 - mean) / std; one number, or one per channel.
        augment: augmentations by name, applied in this order, to whole batches, in training alone.
    """

    kind = "images"
    NOT_READ_KEYS = (*Data.NOT_READ_KEYS, "mean", "std", "augment", "_constants")

    def __init__(
        self,
        *,
        shape: Sequence[int],
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        augment: Mapping[str, Augmentation | None] | None = None,
        **data: Any,
    ) -> None:
        super().__init__(**data)
        self.shape = tuple(shape)
        self.mean, self.std = self._per_channel(mean), self._per_channel(std)
        self._constants: dict[tuple[torch.device, int, int], tuple[Tensor, Tensor]] = {}
        self.augment = {name: op for name, op in (augment or {}).items() if op}

    def _per_channel(self, value: float | Sequence[float]) -> list[float]:
        values = [float(v) for v in value] if isinstance(value, Sequence) else [float(value)] * self.shape[0]
        if len(values) != self.shape[0]:
            raise UserError(f"data.mean and data.std take one number or {self.shape[0]} (one per channel): {value}")
        return values

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        real = tuple(self.examples["train"].inputs.shape[1:])
        if real != self.shape:
            raise UserError(f"data.shape={list(self.shape)}, but the images of {type(self).__name__} are {list(real)}")

    def preprocess(self) -> dict[str, Any]:
        return {**super().preprocess(), "shape": list(self.shape), "mean": self.mean, "std": self.std}

    def load_preprocess(self, preprocess: dict[str, Any]) -> None:
        super().load_preprocess(preprocess)
        if (channels := len(preprocess["mean"])) != self.shape[0]:
            raise UserError(f"the run was trained on images of {channels} channels, and these have {self.shape[0]}")
        mean, std = (self._per_channel(preprocess[name]) for name in ("mean", "std"))
        if (mean, std) != (self.mean, self.std):
            log.warning(
                "the run's normalisation is taken, mean %s and std %s, not %s and %s", mean, std, self.mean, self.std
            )
        self.mean, self.std = mean, std
        self._constants.clear()

    def encode(self, splits: dict[SplitName, Examples]) -> dict[SplitName, Examples]:
        """Lays the channels of a pixel side by side, as convolutions and augmentations read them fastest."""
        last = torch.channels_last
        return {name: Examples(e.inputs.contiguous(memory_format=last), e.targets) for name, e in splits.items()}

    def iter_inputs(self, given: str) -> Iterator[Path]:
        """Files: see `expand_input`."""
        if self.shape[0] not in MODES:
            raise UserError(f"input={given}: no file is read as an image of {self.shape[0]} channels; type split=test")
        return expand_input(given)

    def load_input(self, source: Path) -> RawInput:
        image, changes = decode(source, shape=self.shape)
        return RawInput({"input": str(source)}, image, changes)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002 (Lightning's hook)
        images, labels = batch
        if self.augment and self.shuffle and self.trainer is not None and self.trainer.training:
            images = self.augment_images(images)
        images = self.normalize(images)
        if self.trainer is not None:  # Lightning has done this to bytes, before they became floats
            images = self.trainer.precision_plugin.convert_input(images)
        return images, labels

    def augment_images(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W), uint8 -> the same, changed, as bytes or as floats in 0..1.

        The numbers depend on seed, batch and process alone.
        """
        assert self.trainer is not None, "the batch's number comes from the trainer"
        seed = derive_seed(self.seed, self.trainer.fit_loop.total_batch_idx + 1, self.trainer.global_rank)
        generator = torch.Generator(images.device).manual_seed(seed)
        moves: list[CoordinateMap] = []
        for augmentation in self.augment.values():
            if isinstance(augmentation, GeometricAugmentation):
                moves.append(augmentation.sample_map(images, generator))
                continue
            images = augmentation(to_float(apply_maps(images, moves)), generator)
            moves = []
        return apply_maps(images, moves)

    def normalize(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W), uint8 or floats in 0..1 -> (images - mean) / std, channel by channel."""
        scale, shift = self._scale_and_shift(255 if images.dtype == torch.uint8 else 1, images)
        return torch.addcmul(shift, images.float(), scale)

    def _scale_and_shift(self, most: int, images: Tensor) -> tuple[Tensor, Tensor]:
        """What pixels of 0..most are multiplied by, and what is added.

        (C, 1, W) each, though a number a channel would do: laid out as a row of the images is, they let a CPU go
        through whole rows instead of pixel by pixel, in a fifth of the time.
        """
        key = images.device, most, images.shape[-1]
        if key not in self._constants:  # once: copying numbers to a GPU waits for it
            mean, std = (torch.tensor(v, device=images.device) for v in (self.mean, self.std))
            scale, shift = (
                each.expand(images.shape[-1], -1).contiguous().T[:, None] for each in (1 / (most * std), -mean / std)
            )
            self._constants[key] = scale, shift
        return self._constants[key]


def to_float(images: Tensor) -> Tensor:
    """uint8 -> floats in 0..1; floats are there already."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images
