"""Test-time augmentation: the mean of the predictions of an image and of its mirror image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from train_smarter.errors import UserError

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from lightning import LightningDataModule, LightningModule

NOTES = {"flip": "predictions are means of those of an image and of its mirror image"}


@contextmanager
def use_tta(model: LightningModule, data: LightningDataModule, tta: str | None) -> Iterator[None]:
    """Within it, the model's outputs are those whose predictions are the mean; what uses it needs no change.

    Args:
        tta: flip, or None: the model stays as it is.

    Raises:
        UserError: there is no such mean: of inputs that are no images, or by the model's task.
    """
    from train_smarter.data.image_data import image_of, with_image

    if tta is None:
        yield
        return
    task, forward = _task_with_mean(model, data, tta), model.forward

    def forward_both(inputs: Any) -> Any:
        mirrored = with_image(inputs, image_of(inputs).flip(-1))
        return task.average_mirrored(forward(inputs), forward(mirrored))

    model.forward = forward_both  # type: ignore[method-assign]
    try:
        yield
    finally:
        model.forward = forward  # type: ignore[method-assign]


def _task_with_mean(model: LightningModule, data: LightningDataModule, tta: str) -> Any:
    from train_smarter.data.image_data import ImageData
    from train_smarter.fit.module import Model
    from train_smarter.task.base import Task

    if tta not in NOTES:
        raise UserError(f"tta={tta}: give flip, or null")
    if not isinstance(data, ImageData):
        raise UserError(f"tta={tta} mirrors images, and {type(data).__name__} has none: type tta=null")
    if not isinstance(model, Model):
        raise UserError(f"tta={tta} needs a train_smarter.Model, which has a task: type tta=null")
    task = model.task
    if type(task).average_mirrored is Task.average_mirrored:
        raise UserError(
            f"tta={tta}: {type(task).__name__} has no mean of the predictions of an image and of its mirror image; "
            "classification, multilabel and segmentation have: type tta=null"
        )
    return task
