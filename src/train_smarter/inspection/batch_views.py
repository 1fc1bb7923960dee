"""The examples of a batch as a person sees them: images with masks, texts, rows of a table."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train_smarter.data.examples import count_rows, map_tensors, take_rows
from train_smarter.inspection.values import named_parts, split_batch
from train_smarter.task.base import Task
from train_smarter.task.samples import views
from train_smarter.task.samples.views import View

MAX_CELLS = 12  # columns of a table, and numbers of any other input


def show_batch(batch: Any, plain: Any, data: Any, task: Task | None, count: int) -> list[View]:
    """Views of the first examples.

    Args:
        batch: as the model gets it.
        plain: the same examples without augmentation, or None.
        data: the datamodule, which knows names and normalization.
        task: spells the targets; None: they are shown as numbers.
        count: examples shown.
    """
    inputs, targets = (map_tensors(lambda part: part.detach().cpu(), tree) for tree in split_batch(batch))
    if not named_parts(inputs, "inputs"):
        return []
    index = torch.arange(min(count, count_rows(inputs)))
    inputs, targets = take_rows(inputs, index), None if targets is None else take_rows(targets, index)
    captions = _captions(targets, data, task, len(index))
    if (images := views.image_of(inputs)) is not None:
        before = None if plain is None else views.image_of(take_rows(split_batch(plain)[0], index))
        return [_show_images(images, before, _masks(targets, images), captions, data)]
    texts = _texts(inputs, data)
    if texts:
        return [views.texts("texts", list(zip(captions, texts, strict=True)))]
    return [_show_rows(inputs, captions, data)]


# ---- captions


def _captions(targets: Any, data: Any, task: Task | None, count: int) -> list[str]:
    """The target of each example in words; empty where it is no number or name."""
    columns: Mapping[Any, Sequence[Any]] = {}
    if task is not None and targets is not None:
        try:
            columns = task.true_columns(targets, [str(name) for name in getattr(data, "names", None) or ()])
        except Exception:  # of targets that do not fit the task, which is another finding
            task = None
    if task is None and isinstance(targets, Tensor) and targets.ndim <= 2:
        columns = dict(enumerate(targets.reshape(count, -1)[:, :MAX_CELLS].T.tolist()))
    rows = list(zip(*columns.values(), strict=True)) or [()] * count
    heads = [f"{str(name).removeprefix('true ')} " for name in columns] if len(columns) > 1 else [""]
    return [", ".join(f"{head}{_spell(cell)}" for head, cell in zip(heads, row, strict=False)) for row in rows]


def _spell(cell: Any) -> str:
    if isinstance(cell, list | tuple):
        return ", ".join(map(str, cell)) or "none"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


# ---- images


def _show_images(
    images: Tensor, before: Tensor | None, masks: Tensor | None, captions: Sequence[str], data: Any
) -> View:
    names = views.names_of(data, len(getattr(data, "names", None) or ()))
    classes = max(len(names), 0 if masks is None else _num_classes(masks))
    items = []
    for place, caption in enumerate(captions):
        pictures = [views.png(_pixels(images[place], data))]
        if masks is not None:
            shown = views.mask_pixels(masks[place], classes)
            pictures += [views.png(shown, nearest=True), views.png(_overlay(images[place], masks[place], shown, data))]
        if before is not None:
            pictures.append(views.png(_pixels(before[place].cpu(), data)))
        items.append((pictures, caption))
    parts = [
        "image",
        *(["mask", "both"] if masks is not None else []),
        *(["not augmented"] if before is not None else []),
    ]
    legend = [] if masks is None else [(name, views.mask_color(place)) for place, name in enumerate(names)]
    if masks is not None and bool(((masks < 0) | (masks >= classes)).any()):
        legend.append(("no class", views.IGNORED))
    return views.images(f"images: {', '.join(parts)}", items, legend=legend)


def _pixels(image: Tensor, data: Any) -> Any:
    """Pixels in 0..1 of a normalized image, or of bytes."""
    if not image.is_floating_point():
        return views.to_visible(image / 255, [0.0], [1.0])
    return views.to_visible(image, **views.normalization(data, len(image)))


def _masks(targets: Any, images: Tensor) -> Tensor | None:
    """The first classes (B, H, W) of the images' size among the targets."""
    for part in named_parts(targets, "targets").values():
        mask = part[:, 0] if part.ndim == 4 and part.shape[1] == 1 else part
        if mask.ndim == 3 and mask.shape[-2:] == images.shape[-2:] and not mask.is_floating_point():
            return mask
    return None


def _num_classes(masks: Tensor) -> int:
    """By the values that occur, 255 left out: it marks pixels that do not count."""
    return int(masks.where((masks >= 0) & (masks < 255), 0).max()) + 1


def _overlay(image: Tensor, mask: Tensor, colors: Any, data: Any) -> Any:
    """The image, tinted wherever the mask is not 0, which usually is the background."""
    pixels = _pixels(image, data)
    pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return np.where((mask.numpy() != 0)[..., None], (pixels + colors) / 2, pixels)


# ---- texts and rows


def _texts(inputs: Any, data: Any) -> list[str]:
    """Tokens (B, T), or those of a dict, as texts; empty where the inputs are something else."""
    is_dict = isinstance(inputs, Mapping) and "input_ids" in inputs
    tokens = inputs["input_ids"] if is_dict else inputs
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.is_floating_point():
        return []
    rows = [map_tensors(lambda part: part[place], inputs) for place in range(len(tokens))]  # noqa: B023 (used at once)
    texts = [views.text_of(data, row) for row in rows]
    return [textwrap.shorten(text, views.MAX_TEXT, placeholder=" …") for text in texts if text is not None]


def _show_rows(inputs: Any, captions: Sequence[str], data: Any) -> View:
    """A row for each example: the numbers of each part, by the names of the columns where they are known."""
    heads, cells = list[str](), list[list[Any]]()
    for name, part in named_parts(inputs, "").items():
        flat = part.reshape(len(part), -1)[:, :MAX_CELLS]
        known = [str(column) for column in getattr(data, "columns", None) or ()]
        if len(known) < flat.shape[1]:
            known = [f"{name or 'input'} {place}" for place in range(flat.shape[1])]
        heads += known[: flat.shape[1]]
        cells += flat.T.tolist()
    rows = list(zip(*cells, captions, strict=True))
    return views.table("rows", [*heads, "target"], rows)
