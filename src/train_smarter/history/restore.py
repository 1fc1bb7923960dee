"""Load the weights of a past run into a model, and its preprocessing into its data."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule

from train_smarter import paths
from train_smarter.data.base import Data
from train_smarter.errors import UserError, first_paragraph
from train_smarter.run.checksums import check_checkpoint
from train_smarter.run.files import read_dict
from train_smarter.run.run_dir import display_name


def load_weights(data: LightningDataModule, model: LightningModule, folder: Path, checkpoint: Path) -> int:
    """Sets data and model to what a run in `folder` had learned; returns the training step of the checkpoint.

    The data treat new input as the run treated its own (normalisation, vocabulary); the model has the checkpoint's
    weights, on the CPU, and is set to evaluation.

    Raises:
        UserError: the checkpoint is damaged, holds more than numbers, or does not fit the model.
    """
    load_preprocess(data, folder)
    content = load_checkpoint(checkpoint)
    try:
        model.on_load_checkpoint(content)
        model.load_state_dict(content["state_dict"], strict=model.strict_loading)
    except (KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise UserError(f"{checkpoint} does not fit {type(model).__name__}: {first_paragraph(error)}") from error
    model.eval()
    return int(content.get("global_step", 0))


def load_preprocess(data: LightningDataModule, folder: Path) -> None:
    """The preprocessing alone; a LightningDataModule that is no `Data` keeps none."""
    if not isinstance(data, Data):
        return
    again = f"train it again: train rerun={display_name(folder, paths.LOGS)}"
    try:
        data.load_preprocess(read_dict(folder / "preprocess.json"))
    except UserError as error:
        raise UserError(f"{str(error).partition('; to do without')[0]}; {again}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder / 'preprocess.json'} does not fit {type(data).__name__}: {error!r}; {again}"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds: numbers, texts and tensors, never code."""
    check_checkpoint(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # what torch then advises, nobody should do
        code = re.search(r"GLOBAL (\S+)", str(error))
        holds = f"it holds {code[1]}, which is code" if code else "it is damaged, or holds more than numbers"
        raise UserError(f"{path} is refused: {holds}") from error
    except Exception as error:  # a damaged file fails in many ways
        raise UserError(f"{path} is no checkpoint that can be read: {first_paragraph(error)[:200]}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no checkpoint: it holds a {type(content).__name__}")
    return content
