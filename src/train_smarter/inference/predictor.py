"""Predict batches with a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from train_smarter.errors import UserError, first_paragraph

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    import torch
    from lightning import LightningDataModule, LightningModule
    from torch import Tensor

    from train_smarter.data.examples import Batch
    from train_smarter.task.base import Columns, Files, Task

IdColumns = list[dict[str, Any]]  # what names each example of a batch in the table


def device_of(name: str) -> torch.device:
    import torch

    gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there = [*(gpu for gpu, available in gpus.items() if available), "cpu"]
    if name not in ("auto", *there):
        raise UserError(f"device={name}: this machine has {', '.join(there)}; device=auto takes the first")
    return torch.device(there[0] if name == "auto" else name)


def task_of(model: LightningModule) -> Task:
    """The model's task; one that predicts the raw outputs for a LightningModule without a task."""
    from train_smarter.task.base import Task
    from train_smarter.task.raw_outputs import RawOutputs

    task = getattr(model, "task", None)
    return task if isinstance(task, Task) else RawOutputs()


@dataclass(frozen=True)
class Predictions:
    """Predictions of one batch.

    id_columns: what names each example, by column.
    columns: of the table; one value an example.
    files: beside the table, by "<column>.<extension>"; one content an example.
    """

    id_columns: IdColumns
    columns: Columns
    files: Files

    def __len__(self) -> int:
        return len(self.id_columns)


def predict(
    data: LightningDataModule,
    model: LightningModule,
    batches: Iterable[tuple[IdColumns, Batch]],
    *,
    device: torch.device,
    names: Sequence[str],
    format: str = "csv",  # noqa: A002
    own_input: bool = False,
) -> Iterator[Predictions]:
    """Yield the predictions of each batch; the model is in evaluation mode.

    Args:
        names: of the classes, labels or target columns.
        format: csv or jsonl.
        own_input: the batches are a user's own input, not a split.

    Raises:
        UserError: the model's outputs are NaN, or do not fit its task.
    """
    import torch

    from train_smarter.data.base import Data

    task = task_of(model.to(device))
    network = CheckedNetwork(task, model)
    for id_columns, batch in batches:
        with torch.inference_mode():
            inputs, _ = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, device, 0), 0)
            prediction = network.predict(
                inputs, len(id_columns), task.predict_input if own_input else task.predict_split
            )
        columns = network.attempt(task.json_columns if format == "jsonl" else task.columns, prediction, names)
        columns = data.add_columns(columns) if isinstance(data, Data) else columns
        files = network.attempt(_files, task, data, prediction)
        for name, values in [*columns.items(), *files.items()]:
            if len(values) != len(id_columns):
                raise network.misfit(f"makes {len(values)} values of {name} of it, for {len(id_columns)} examples")
        yield Predictions(id_columns, columns, files)


def _files(task: Task, data: LightningDataModule, prediction: Mapping[str, Tensor]) -> Files:
    """The task's files; reconstructed images as such, not as the arrays that the network returns."""
    from train_smarter.data.image_data import ImageData
    from train_smarter.data.image_io import MODES
    from train_smarter.task.reconstruction import Reconstruction

    files = task.files(prediction)
    images = prediction.get("reconstruction")
    if not (isinstance(task, Reconstruction) and isinstance(data, ImageData)) or images is None:
        return files
    if tuple(images.shape[1:]) != data.shape or data.shape[0] not in MODES:
        return files
    pictures: Files = {"reconstruction.png": [data.to_png(image) for image in images.cpu()]}
    return pictures | {name: content for name, content in files.items() if name != "reconstruction.npy"}


# ---- outputs that do not fit


class CheckedNetwork:
    """Inputs -> outputs, which have to be numbers and to fit the task."""

    def __init__(self, task: Task, model: LightningModule) -> None:
        self.task, self.model = task, model
        self.outputs: Any = None  # the latest

    def __call__(self, inputs: Any) -> Any:
        from torch import Tensor

        self.outputs = outputs = self.model(inputs)
        _reject_nan(outputs)
        wanted = self.task.num_outputs
        if isinstance(outputs, Tensor) and wanted is not None and (outputs.ndim < 2 or outputs.shape[1] != wanted):
            raise self.misfit(f"needs (B, {wanted}, ...)")
        return outputs

    def predict(self, inputs: Any, count: int, method: Callable[..., Any] | None = None) -> dict[str, Tensor]:
        """What the task predicts of the inputs of `count` examples.

        Args:
            method: of the task, of a network and inputs; None: `predict`, of the network's outputs.

        Raises:
            UserError: the outputs are NaN, or do not fit the task.
        """
        from torch import Tensor

        self.outputs = None
        if method is None:
            prediction = self.attempt(self.task.predict, self(inputs))
        else:
            prediction = self.attempt(method, self, inputs)
        _reject_nan(prediction)
        fits = isinstance(prediction, Mapping) and len(prediction) > 0
        parts = prediction.values() if fits else ()
        if not fits or not all(isinstance(part, Tensor) and part.ndim and len(part) == count for part in parts):
            raise self.misfit(f"makes {describe(prediction)} of it, for {count} examples")
        return dict(prediction)

    def attempt(self, function: Callable[..., Any], *given: Any) -> Any:
        """Call a function of the task, which may fail in any way at outputs that are not its own."""
        try:
            return function(*given)
        except Exception as error:
            if isinstance(error, UserError) or self.outputs is None:
                raise  # a fault of the network deserves its traceback
            raise self.misfit(f"cannot use it: {first_paragraph(error)}") from error

    def misfit(self, problem: str) -> UserError:
        kind = type(self.task).__name__
        return UserError(f"{type(self.model).__name__} returns {describe(self.outputs)}, but {kind} {problem}")


def _reject_nan(tree: Any) -> None:
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    floats = (part for part in tree_leaves(tree) if isinstance(part, Tensor) and part.is_floating_point())
    if any(bool(part.isnan().any()) for part in floats):
        raise UserError("the model's outputs are no numbers (NaN): its training broke down; give another run")


def describe(tree: Any) -> str:
    """Shapes of the tensors in a tree, for a message."""
    from torch import Tensor

    if isinstance(tree, Tensor):
        return f"{tree.dtype} {tuple(tree.shape)}".removeprefix("torch.")
    if isinstance(tree, Mapping):
        return "{" + ", ".join(f"{key}: {describe(part)}" for key, part in tree.items()) + "}"
    if isinstance(tree, tuple | list):
        return "(" + ", ".join(describe(part) for part in tree) + ")"
    return type(tree).__name__
