"""Train Smarter: PyTorch Lightning trains, Hydra composes, Optuna searches, TensorBoard shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from train_smarter.data.base import Data
    from train_smarter.model.base import Classifier


def load(run: str | Path = "last", *, checkpoint: str = "best") -> tuple[Classifier, Data]:
    """A past run's model and data, ready to use in a notebook or a service.

    Args:
        run: `last`, a run's folder, its name, or a multirun, of which the best trial is taken.
        checkpoint: `best`, `last`, or a file.

    Returns:
        The model, with the checkpoint's weights, in evaluation mode on the CPU; and its data, which turn new input
        into what the model was trained on, and read the run's own examples in `data.setup()`.

    Raises:
        train_smarter.error.UserError: there is no such run, or it lacks what is needed.
    """
    from train_smarter import past
    from train_smarter.build import build_data, build_model, restore
    from train_smarter.paths import LOGS

    folder = past.find_run(str(run), LOGS)
    cfg = past.config_outside_hydra(folder)
    data, model = build_data(cfg), build_model(cfg)
    restore(data, model, folder, past.checkpoint(folder, checkpoint))
    return model, data
