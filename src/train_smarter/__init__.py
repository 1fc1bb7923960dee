"""Train Smarter: PyTorch Lightning trains, Hydra composes, Optuna searches, TensorBoard shows.

A project imports the engine from here: `from train_smarter import Model, ImageData`. What this module exports is
what an update of the engine keeps stable; every other module may change. Importing it costs nothing: a name loads its
module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train_smarter.commands.api import TrainedRun, compose, load, predict, train
    from train_smarter.data.base import Data, data_dir
    from train_smarter.data.download import fetch, published_md5, unpack
    from train_smarter.data.examples import Batch, Examples, RawDataset, RawInput, SplitName
    from train_smarter.data.image_data import ImageData
    from train_smarter.data.interaction_data import InteractionData
    from train_smarter.data.interactions import Interactions, index_ids
    from train_smarter.data.storage import free_memory
    from train_smarter.data.table_data import TableData
    from train_smarter.data.text_data import TextData
    from train_smarter.data.text_files import TextLine, read_texts
    from train_smarter.errors import UserError
    from train_smarter.fit.module import Model
    from train_smarter.task.base import Task
    from train_smarter.task.classification import Classification
    from train_smarter.task.language_model import LanguageModel
    from train_smarter.task.multilabel import Multilabel
    from train_smarter.task.ranking import Ranking
    from train_smarter.task.rating import Rating
    from train_smarter.task.reconstruction import Reconstruction
    from train_smarter.task.regression import Regression
    from train_smarter.task.segmentation import Segmentation

__all__ = [
    "Batch",
    "Classification",
    "Data",
    "Examples",
    "ImageData",
    "InteractionData",
    "Interactions",
    "LanguageModel",
    "Model",
    "Multilabel",
    "Ranking",
    "Rating",
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
    "TrainedRun",
    "UserError",
    "compose",
    "data_dir",
    "fetch",
    "free_memory",
    "index_ids",
    "load",
    "predict",
    "published_md5",
    "read_texts",
    "train",
    "unpack",
]

# Where each name is defined.
_MODULES = {
    "Batch": "data.examples",
    "Classification": "task.classification",
    "Data": "data.base",
    "Examples": "data.examples",
    "ImageData": "data.image_data",
    "InteractionData": "data.interaction_data",
    "Interactions": "data.interactions",
    "LanguageModel": "task.language_model",
    "Model": "fit.module",
    "Multilabel": "task.multilabel",
    "Ranking": "task.ranking",
    "Rating": "task.rating",
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
    "TrainedRun": "commands.api",
    "UserError": "errors",
    "compose": "commands.api",
    "data_dir": "data.base",
    "fetch": "data.download",
    "free_memory": "data.storage",
    "index_ids": "data.interactions",
    "published_md5": "data.download",
    "load": "commands.api",
    "predict": "commands.api",
    "train": "commands.api",
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
