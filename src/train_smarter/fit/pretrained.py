"""Start from the weights of a checkpoint: where name and shape agree, and with other classes where their names do."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from train_smarter.data.base import Data
from train_smarter.data.preprocess import saved_preprocess
from train_smarter.errors import UserError
from train_smarter.run.checksums import check_checkpoint
from train_smarter.task.base import Task, check_outputs
from train_smarter.task.language_model import LanguageModel

BALANCE = "task.class_weights"  # by the frequency of the classes in these data, not in those of a checkpoint


def read_pretrained(path: str) -> dict[str, Any]:
    """The content of a checkpoint with weights.

    Raises:
        UserError: it holds none, or more than numbers, or is damaged.
    """
    check_checkpoint(Path(path), key="model.pretrained")
    try:
        content = dict(torch.load(path, map_location="cpu", weights_only=True))
        content["state_dict"] = dict(content["state_dict"])
    except Exception as error:  # what torch raises depends on how the file is broken
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"model.pretrained={path} is no checkpoint that can be read: {first}") from error
    return content


def adopt_inputs(data: Any, path: str, content: Mapping[str, Any]) -> Any:
    """Let data convert their inputs as those of the checkpoint were; return its preprocessing, None if unknown."""
    preprocess = saved_preprocess(content, Path(path)) if isinstance(data, Data) else None
    if preprocess is not None:
        try:
            data.adopt_inputs(preprocess)
        except UserError as error:
            raise UserError(f"model.pretrained={path}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:  # of another kind of data
            raise UserError(
                f"model.pretrained={path} was not trained on data as {type(data).__name__} reads them: its "
                f"preprocessing lacks {error}"
            ) from error
    return preprocess


def load_pretrained(model: LightningModule, task: Task, data: Any, path: str) -> str:
    """Set the weights of a model to those of a checkpoint where they fit; return what was set, for the log."""
    content = read_pretrained(path)
    given, own = content["state_dict"], model.state_dict()
    given.pop(BALANCE, None)
    fitting = {key: value for key, value in given.items() if key in own and own[key].shape == _shape(value)}
    check_outputs(task, content)
    preprocess = adopt_inputs(data, path, content)
    old, new = list((preprocess or {}).get("names", [])), list(getattr(data, "names", []))
    note = ""
    if old and new and old != new and task.num_outputs is not None:
        if isinstance(task, LanguageModel):
            raise UserError(
                f"model.pretrained={path} predicts other tokens than these data have, or in another order: give a "
                "checkpoint of the same tokens"
            )
        dims = class_dims(model, task)
        moved = _move_rows(own, given, dims, old, new)
        fitting = {key: value for key, value in fitting.items() if key not in dims} | moved
        note = _note(list(dims), [name for name in new if name in old] if moved else [], new)
    if not fitting:
        raise UserError(f"model.pretrained={path} holds no weight that fits {type(model).__name__}")
    model.load_state_dict(fitting, strict=False)
    return f"{len(fitting)} of {len(own)} weights start from {path}{note}"


def _shape(value: Any) -> Any:
    return getattr(value, "shape", None)


def class_dims(model: LightningModule, task: Task) -> dict[str, int]:
    """The dimension in which each weight has a row a class: the one that grows with one class more."""
    larger_task, own = copy.deepcopy(task), model.state_dict()
    assert larger_task.num_outputs is not None
    larger_task.num_outputs += 1
    hparams = {key: value for key, value in model.hparams.items() if key not in ("task", "pretrained")}
    with torch.random.fork_rng(devices=[]):
        larger = type(model)(**hparams, task=larger_task).state_dict()
    dims = {key: _differing_dim(value.shape, larger[key].shape) for key, value in own.items() if key in larger}
    return {key: dim for key, dim in dims.items() if dim is not None} | {
        key: 0 for key in own if key[:5] == "task." and key != BALANCE
    }


def _differing_dim(one: Sequence[int], other: Sequence[int]) -> int | None:
    return next((dim for dim, sizes in enumerate(zip(one, other, strict=True)) if sizes[0] != sizes[1]), None)


def _move_rows(
    own: Mapping[str, Tensor], given: Mapping[str, Any], dims: Mapping[str, int], old: Sequence[str], new: Sequence[str]
) -> dict[str, Tensor]:
    """The weights that depend on the classes, with the rows of the classes that a checkpoint knows.

    Empty, so that all of them start afresh, if it knows no class, or if one of them has not a row a class.
    """
    names = [name for name in new if name in old]
    to, origin = (torch.tensor([order.index(name) for name in names], dtype=torch.long) for order in (new, old))
    moved = {}
    for key, dim in dims.items():
        wanted = [len(old) if place == dim else size for place, size in enumerate(own[key].shape)]
        if not names or own[key].shape[dim] != len(new) or list(_shape(given.get(key)) or ()) != wanted:
            return {}
        rows = given[key].index_select(dim, origin).to(own[key])
        moved[key] = own[key].clone().index_copy(dim, to, rows)
    return moved


def _note(keys: Sequence[str], known: Sequence[str], new: Sequence[str]) -> str:
    """What became of the weights that depend on the classes."""
    afresh = [name for name in new if name not in known]
    parts = [f"rows of {_listed(known)} by name"] if known else []
    parts += [f"{_listed(afresh)} {'starts' if len(afresh) == 1 else 'start'} afresh"] if afresh else []
    return f"; {', '.join(keys)}: {'; '.join(parts)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
