"""Predict batches with a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from train_smarter.errors import UserError

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    import torch

    from train_smarter.data.base import Data
    from train_smarter.data.examples import Batch
    from train_smarter.fit.module import Model


def device_of(name: str) -> torch.device:
    import torch

    gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there = [*(gpu for gpu, available in gpus.items() if available), "cpu"]
    if name not in ("auto", *there):
        raise UserError(f"device={name}: this machine has {', '.join(there)}; device=auto takes the first")
    return torch.device(there[0] if name == "auto" else name)


# ---- what is predicted, a batch at a time

IdColumns = list[dict[str, Any]]  # what names each example of a batch in the table


# ---- predicting


class Prediction(NamedTuple):
    """told: what names the example, by column; name: the most probable class; probability: its own."""

    id_columns: dict[str, Any]
    name: str
    probability: float
    probabilities: list[float]


def predict(
    data: Data,
    model: Model,
    batches: Iterable[tuple[IdColumns, Batch]],
    *,
    device: torch.device,
    names: Sequence[str] | None = None,
) -> Iterator[list[Prediction]]:
    """The predictions of each batch, as they are asked for; the model is set to evaluation.

    `names`: of the classes; None: the data's.

    Raises:
        UserError: the model gives no numbers.
    """
    model.to(device)
    names = data.names if names is None else names
    for told, batch in batches:
        classes, rows = _forward(data, model, batch, device)
        yield [
            Prediction(name, names[label], row[label], row)
            for name, label, row in zip(told, classes, rows, strict=True)
        ]


def _forward(data: Data, model: Model, batch: Batch, device: torch.device) -> tuple[list[int], list[list[float]]]:
    """The most probable class of each example, and the probabilities of all."""
    import torch

    with torch.inference_mode():
        inputs, _ = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, device, 0), 0)
        logits = model(inputs)  # (B, K) or (B, 1)
        if logits.isnan().any():
            raise UserError("the model's outputs are no numbers (NaN): its training broke down; give another run")
        rows = model.task.predict(logits)["probabilities"]
        return rows.argmax(1).tolist(), rows.tolist()
