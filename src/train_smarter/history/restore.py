"""Load the weights of a past run into a model, and its preprocessing into its data."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule

from train_smarter import paths
from train_smarter.data.base import Data
from train_smarter.data.preprocess import own_preprocess, saved_preprocess
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
    content = load_checkpoint(checkpoint)
    load_preprocess(data, folder, content, checkpoint)
    try:
        model.on_load_checkpoint(content)
        model.load_state_dict(content["state_dict"], strict=model.strict_loading)
    except (KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise UserError(f"{checkpoint} does not fit {type(model).__name__}: {first_paragraph(error)}") from error
    model.eval()
    return int(content.get("global_step", 0))


def load_preprocess(
    data: LightningDataModule, folder: Path | None, content: Mapping[str, Any], checkpoint: Path
) -> None:
    """The preprocessing alone, before `setup`; a LightningDataModule that is no `Data` keeps none.

    Args:
        folder: of the run, for a checkpoint that has no preprocessing; None: the data are then left as they are.
        content: of the checkpoint.
    """
    if not isinstance(data, Data):
        return
    preprocess, source = own_preprocess(content), checkpoint
    again = "" if folder is None else f"; train it again: train rerun={display_name(folder, paths.LOGS)}"
    try:
        if preprocess is None and folder is not None:
            source = folder / "preprocess.json"
            preprocess = read_dict(source)
        elif preprocess is None:
            preprocess = saved_preprocess(content, checkpoint)
        if preprocess is not None:
            data.load_preprocess(preprocess)
    except UserError as error:
        text = str(error).partition("; to do without")[0]
        raise UserError(f"{text if str(source) in text else f'{source}: {text}'}{again}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{source}: its preprocessing does not fit {type(data).__name__}: {error!r}{again}") from error


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
