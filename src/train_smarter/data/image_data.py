"""What image data sets share: pixels become numbers on the device, augmented in training, normalised always."""

import io
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from train_smarter.data.augment import Augmentation as OwnAugmentation
from train_smarter.data.augment import Erase, GeometricAugmentation, ResizedCrop, to_float
from train_smarter.data.base import Data
from train_smarter.data.examples import Batch, Examples, RawInput, SplitName, Tree, map_tensors
from train_smarter.data.image_files import expand_input
from train_smarter.data.image_fit import check_resize
from train_smarter.data.image_io import MODES, decode
from train_smarter.data.image_moves import CoordinateMap, ShiftMap, apply_maps, center_crop, pieces
from train_smarter.data.loader import Loader, derive_seed
from train_smarter.data.mixing import Mixing, mix_batch
from train_smarter.data.policies import Policy
from train_smarter.data.resized_crop import pick_boxes, resize_boxes
from train_smarter.data.rows import Rows
from train_smarter.data.shared_draws import SharedDraws
from train_smarter.errors import UserError

log = logging.getLogger(__name__)


# Images (B, C, H, W), floats in 0..1, and a generator, both on one device -> images of the same shape.
Augmentation = Callable[[Tensor, torch.Generator], Tensor]


class ImageData(Data):
    """Images (N, C, H, W) as uint8 in memory; a model receives floats.

    Inputs may be a dict with an entry "image", or a tuple whose first entry is the image: the other entries reach the
    model as they are. Targets of the image's height and width, (N, H, W) or (N, C, H, W), are masks: augmentations
    that move pixels move theirs too.

    Args:
        shape: [C, H, W] that the model sees.
        mean, std: the model sees (pixel / 255 - mean) / std; one number, or one per channel.
        resize: how an image file gets the size of the examples: see `image_io.decode`.
        augment: augmentations by name, applied in this order, to whole batches, in training alone.
        mask_fill: what comes into a mask from outside the image: 0, or the class that does not count.
    """

    kind = "images"
    NOT_READ_KEYS = (*Data.NOT_READ_KEYS, "mean", "std", "augment", "mask_fill", "_constants")

    def __init__(
        self,
        *,
        shape: Sequence[int],
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        resize: str = "stretch",
        augment: Mapping[str, Augmentation | None] | None = None,
        mask_fill: int = 0,
        **data: Any,
    ) -> None:
        super().__init__(**data)
        self.shape: tuple[int, int, int] = tuple(shape)  # type: ignore[assignment]
        self.resize = check_resize(resize)
        self.mean, self.std = self._per_channel(mean), self._per_channel(std)
        if not all(map(math.isfinite, self.mean)) or not all(0 < value < math.inf for value in self.std):
            raise UserError(f"data.mean={mean} data.std={std}: give finite numbers, of data.std above 0")
        self._constants: dict[tuple[torch.device, int, int], tuple[Tensor, Tensor]] = {}
        self.augment = {name: op for name, op in (augment or {}).items() if op}
        self.mask_fill = mask_fill
        self._check_augmentations()

    @property
    def mixed_by(self) -> Sequence[str]:  # type: ignore[override]
        """The keys of `Mixing` augmentations; without `shuffle`, nothing is augmented."""
        return [f"data.augment.{name}" for name, op in self.augment.items() if isinstance(op, Mixing) and self.shuffle]

    def _check_augmentations(self) -> None:
        height, width = self.shape[1:]
        for name, augmentation in self.augment.items():
            limits = augmentation.limits(height, width) if isinstance(augmentation, OwnAugmentation) else {}
            for setting, most in limits.items():
                if (value := getattr(augmentation, setting)) > most:
                    raise UserError(
                        f"data.augment.{name}.{setting}={value}: of images of {height}x{width} pixels this leaves too "
                        f"little; give at most {most}"
                    )
            if isinstance(augmentation, Erase) and len(color := augmentation.fill) not in (1, self.shape[0]):  # type: ignore[arg-type]
                raise UserError(
                    f"data.augment.{name}.fill={list(color)}: give one number, or {self.shape[0]}, one per channel"  # type: ignore[arg-type]
                )

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """[C, H, W] of the examples, compared with the real images in `setup`.

        From larger ones than `shape`, training cuts a random window of the model's size, and evaluation the middle.
        """
        return self.shape

    def _per_channel(self, value: float | Sequence[float]) -> list[float]:
        values = [float(v) for v in value] if isinstance(value, Sequence) else [float(value)] * self.shape[0]
        if len(values) != self.shape[0]:
            raise UserError(f"data.mean and data.std take one number or {self.shape[0]} (one per channel): {value}")
        return values

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        real = tuple(image_of(self.examples["train"].inputs).shape[1:])
        if real != self.stored_shape:
            raise UserError(
                f"data.shape={list(self.stored_shape)}, but the images of {type(self).__name__} are {list(real)}"
            )
        if self.mixed_by and not isinstance(self.examples["train"].inputs, Tensor | Rows):
            raise UserError(
                f"{self.mixed_by[0]} mixes images alone, and the inputs of {type(self).__name__} are more than images: "
                f"type {self.mixed_by[0]}=null"
            )

    def preprocess(self) -> dict[str, Any]:
        return {**super().preprocess(), "shape": list(self.shape), "mean": self.mean, "std": self.std}

    def load_preprocess(self, preprocess: dict[str, Any]) -> None:
        super().load_preprocess(preprocess)
        if (channels := len(preprocess["mean"])) != self.shape[0]:
            raise UserError(f"the run was trained on images of {channels} channels, and these have {self.shape[0]}")
        self.adopt_inputs(preprocess)

    def adopt_inputs(self, preprocess: dict[str, Any]) -> None:
        if len(preprocess["mean"]) != self.shape[0]:
            return  # the first layer does not fit, and starts afresh
        mean, std = (self._per_channel(preprocess[name]) for name in ("mean", "std"))
        if (mean, std) != (self.mean, self.std):
            log.warning(
                "the normalization of the given weights is used: mean %s, std %s instead of mean %s, std %s",
                *(mean, std, self.mean, self.std),
            )
        self.mean, self.std = mean, std
        self._constants.clear()

    def encode(self, splits: dict[SplitName, Examples]) -> dict[SplitName, Examples]:
        """Lays the channels of a pixel side by side, as convolutions and augmentations read them fastest."""
        laid_out = {}
        for name, examples in splits.items():
            images = image_of(examples.inputs)
            if isinstance(images, Tensor):  # `Rows` are read so
                images = images.contiguous(memory_format=torch.channels_last)
            laid_out[name] = Examples(with_image(examples.inputs, images), examples.targets)
        return laid_out

    def iter_inputs(self, given: str) -> Iterator[Path]:
        """Files: see `expand_input`."""
        if self.shape[0] not in MODES:
            raise UserError(f"input={given}: no file is read as an image of {self.shape[0]} channels; type split=test")
        return expand_input(given)

    def load_input(self, source: Path) -> RawInput:
        image, changes = decode(source, shape=self.stored_shape, resize=self.resize)
        return RawInput({"input": str(source)}, image, changes)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002 (Lightning's hook)
        inputs, targets = batch
        images = image_of(inputs)
        if (
            (self.augment or self.stored_shape != self.shape)
            and self.shuffle
            and self.trainer is not None
            and self.trainer.training
        ):
            images, targets = self.augment_batch(images, targets)
        elif self.stored_shape != self.shape:
            crop = partial(center_crop, size=self.shape[1:])
            images, targets = self._change_parts(images, targets, crop, crop)
        images = self.normalize(images)
        if self.trainer is not None:  # Lightning has done this to bytes, before they became floats
            images = self.trainer.precision_plugin.convert_input(images)
        return with_image(inputs, images), targets

    def augment_batch(self, images: Tensor, targets: Tree) -> tuple[Tensor, Tree]:
        """Images (B, C, H, W), uint8 -> the same, changed, as bytes or as floats in 0..1; masks move along.

        The numbers depend on the seed, the batch and an example's place in it, and not on the number of processes.
        """
        trainer = self.trainer
        assert trainer is not None, "the batch's number comes from the trainer"
        rank, number = trainer.global_rank, trainer.fit_loop.total_batch_idx + 1
        generator = torch.Generator(images.device).manual_seed(derive_seed(self.seed, number, rank))
        if trainer.world_size == 1 or not isinstance(loader := trainer.train_dataloader, Loader):
            return self._apply_augmentations(images, targets, generator)
        total = loader.sampler.total_size(trainer.fit_loop.epoch_loop.batch_idx + 1)
        seed, world = derive_seed(self.seed, number, 0), trainer.world_size
        with SharedDraws(generator, seed=seed, rows=len(images), total=total, rank=rank, world=world):
            return self._apply_augmentations(images, targets, generator)

    def _apply_augmentations(self, images: Tensor, targets: Tree, generator: torch.Generator) -> tuple[Tensor, Tree]:
        moves: list[CoordinateMap] = []
        size: tuple[int, int] | None = None  # of the images after the next moves; None: they keep it
        if self.stored_shape != self.shape and not any(isinstance(op, ResizedCrop) for op in self.augment.values()):
            size = self.shape[1:]
            moves.append(self._sample_window(images, generator))
        for augmentation in self.augment.values():
            if isinstance(augmentation, GeometricAugmentation):
                moves.append(augmentation.sample_map(images, generator))
                continue
            if isinstance(augmentation, Mixing):
                continue  # at the end
            images, targets = self._move_pixels(images, targets, moves, size)
            moves = []
            if isinstance(augmentation, ResizedCrop):
                boxes, size = augmentation.sample_boxes(images, generator), self.shape[1:]
                resize, pick = (partial(each, boxes=boxes, size=size) for each in (resize_boxes, pick_boxes))
                images, targets = self._change_parts(images, targets, resize, pick)
                size = None
            elif isinstance(augmentation, Policy):
                for step in augmentation.sample_steps(images, generator):
                    images, targets = self._change_parts(
                        images, targets, step.change_images, partial(step.move_masks, fill=self.mask_fill)
                    )
            else:
                takes_bytes = isinstance(augmentation, OwnAugmentation) and augmentation.TAKES_BYTES
                images = augmentation(images if takes_bytes else to_float(images), generator)
        images, targets = self._move_pixels(images, targets, moves, size)
        mixing = [op for op in self.augment.values() if isinstance(op, Mixing)]
        if not mixing:
            return images, targets
        return mix_batch(images, targets, mixing, generator, num_classes=len(self.names))

    def _sample_window(self, images: Tensor, generator: torch.Generator) -> ShiftMap:
        """Draws a window of the model's size for each of the images (B, C, H, W)."""
        shifts = []
        for old, new in zip(images.shape[2:], self.shape[1:], strict=True):
            start = torch.randint(old - new + 1, (len(images),), generator=generator, device=images.device)
            shifts.append(start - (old - new) / 2)
        return ShiftMap(*shifts)

    def _move_pixels(
        self, images: Tensor, targets: Tree, moves: Sequence[CoordinateMap], size: tuple[int, int] | None
    ) -> tuple[Tensor, Tree]:
        """The images, and the masks among the targets, after the same moves."""
        if not moves:
            return images, targets
        move = partial(apply_maps, moves=moves, size=size)
        return self._change_parts(images, targets, move, partial(move, fill=self.mask_fill))

    @staticmethod
    def _change_parts(
        images: Tensor, targets: Tree, of_images: Callable[[Tensor], Tensor], of_masks: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tree]:
        """The images after one function, and the masks among the targets after another; both take (B, C, H, W)."""

        def change(part: Tensor) -> Tensor:
            if part.ndim not in (3, 4) or part.shape[-2:] != images.shape[-2:]:
                return part  # no mask
            changed = of_masks(part[:, None] if part.ndim == 3 else part)
            return changed[:, 0] if part.ndim == 3 else changed

        return of_images(images), map_tensors(change, targets)

    def normalize(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W), uint8 or floats in 0..1 -> (images - mean) / std, channel by channel."""
        scale, shift = self._scale_and_shift(255 if images.dtype == torch.uint8 else 1, images)
        whole = images.device.type != "cpu" or torch.compiler.is_compiling()  # an export leaves the batch's size open
        if whole or (step := pieces(images)) >= len(images):
            return torch.addcmul(shift, images.float(), scale)
        # A few at a time: their floats are read again from the CPU's cache, and take no more memory.
        normalized = torch.empty_like(images, dtype=torch.float)
        for piece, new in zip(images.split(step), normalized.split(step), strict=True):
            torch.addcmul(shift, piece.float(), scale, out=new)
        return normalized

    def to_png(self, image: Tensor) -> bytes:
        """An image as a model sees it, (C, H, W) with 1 or 3 channels -> a PNG file; clipped to black and white."""
        mean, std = (torch.tensor(value, dtype=torch.float).view(-1, 1, 1) for value in (self.mean, self.std))
        pixels = ((image.float() * std + mean).clamp(0, 1) * 255).round().byte().movedim(0, 2).squeeze(2)
        file = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(file, "PNG")
        return file.getvalue()

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


def image_of(inputs: Tree) -> Any:
    """The image of a batch's inputs: the tensor itself, the entry "image" of a dict, the first entry of a tuple."""
    if isinstance(inputs, Tensor | Rows):
        return inputs
    if isinstance(inputs, Mapping) and "image" not in inputs:
        raise UserError(f"inputs are a dict of {', '.join(map(str, inputs))}: name the image 'image'")
    return inputs["image" if isinstance(inputs, Mapping) else 0]


def with_image(inputs: Tree, image: Tensor | Rows) -> Tree:
    """The inputs with another image in the place of theirs."""
    if isinstance(inputs, Tensor | Rows):
        return image
    if isinstance(inputs, Mapping):
        return {**inputs, "image": image}
    return type(inputs)([image, *inputs[1:]])
