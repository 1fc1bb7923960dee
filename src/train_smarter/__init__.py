"""Train Smarter: PyTorch Lightning trains, Hydra composes, Optuna searches, TensorBoard shows.

A project imports the engine from here: `from train_smarter import Model, ImageData`. What this module exports is
what an update of the engine keeps stable; every other module may change. Importing it costs nothing: a name loads its
module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train_smarter.data.base import Data, data_dir
    from train_smarter.data.download import fetch, unpack
    from train_smarter.data.examples import Batch, Examples, RawDataset, RawInput, SplitName
    from train_smarter.data.image_data import ImageData
    from train_smarter.data.table_data import TableData
    from train_smarter.data.text_data import TextData
    from train_smarter.data.text_files import TextLine, read_texts
    from train_smarter.errors import UserError
    from train_smarter.fit.module import Model
    from train_smarter.task.base import Task
    from train_smarter.task.classification import Classification
    from train_smarter.task.language_model import LanguageModel
    from train_smarter.task.multilabel import Multilabel
    from train_smarter.task.reconstruction import Reconstruction
    from train_smarter.task.regression import Regression
    from train_smarter.task.segmentation import Segmentation

__all__ = [
    "Batch",
    "Classification",
    "Data",
    "Examples",
    "ImageData",
    "LanguageModel",
    "Model",
    "Multilabel",
    "RawDataset",
    "RawInput",
    "Reconstruction",
    "Regression",
    "Segmentation",
    "SplitName",
    "TableData",
    "Task",
    "TextData",
    "TextLine",
    "UserError",
    "data_dir",
    "fetch",
    "load",
    "read_texts",
    "unpack",
]

# Where each name is defined.
_MODULES = {
    "Batch": "data.examples",
    "Classification": "task.classification",
    "Data": "data.base",
    "Examples": "data.examples",
    "ImageData": "data.image_data",
    "LanguageModel": "task.language_model",
    "Model": "fit.module",
    "Multilabel": "task.multilabel",
    "RawDataset": "data.examples",
    "RawInput": "data.examples",
    "Reconstruction": "task.reconstruction",
    "Regression": "task.regression",
    "Segmentation": "task.segmentation",
    "SplitName": "data.examples",
    "TableData": "data.table_data",
    "Task": "task.base",
    "TextData": "data.text_data",
    "TextLine": "data.text_files",
    "UserError": "errors",
    "data_dir": "data.base",
    "fetch": "data.download",
    "read_texts": "data.text_files",
    "unpack": "data.download",
}

if not TYPE_CHECKING:  # or a type checker would take any name

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def load(run: str | Path = "last", *, checkpoint: str = "best") -> tuple[Model, Data]:
    """Load a past run's model and data, for a notebook or a service.

    Args:
        run: `last`, a run's folder, its name, or a multirun, of which the best trial is loaded.
        checkpoint: `best`, `last`, or a file.

    Returns:
        The model, with the checkpoint's weights, in evaluation mode on the CPU; and its data, which convert new input
        as for training, and read the run's own examples in `data.setup()`.

    Raises:
        UserError: there is no such run, or it lacks what is needed.
    """
    from train_smarter import paths
    from train_smarter.config.build import build_data, build_model
    from train_smarter.history import find, saved_config
    from train_smarter.history.restore import load_weights

    folder = find.find_run(str(run), paths.LOGS)
    cfg = saved_config.config_outside_hydra(folder)
    data, model = build_data(cfg), build_model(cfg)
    load_weights(data, model, folder, find.checkpoint(folder, checkpoint))
    return model, data
