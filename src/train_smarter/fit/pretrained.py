"""Start from given weights: where name and shape agree, and with other classes where their names do."""

import copy
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train_smarter.data.base import Data
from train_smarter.data.image_data import ImageData
from train_smarter.data.preprocess import saved_preprocess
from train_smarter.errors import UserError, first_paragraph
from train_smarter.fit.weight_names import match_names, report, shorten
from train_smarter.run.checksums import check_checkpoint
from train_smarter.task.base import Task, check_outputs
from train_smarter.task.language_model import LanguageModel

log = logging.getLogger(__name__)

BALANCE = "task.class_weights"  # by the frequency of the classes in these data, not in those of a checkpoint
# Where other programs put the weights in a dict, the most frequent first.
NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")


def read_pretrained(path: str) -> dict[str, Any]:
    """The content of a checkpoint, or of a file of weights, with the weights under "state_dict".

    Raises:
        UserError: it holds none, or more than numbers, or is damaged.
    """
    key = f"model.pretrained={path}"
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            return {"state_dict": load_file(path)}
        check_checkpoint(Path(path), key="model.pretrained")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{key} cannot be used: {error.strerror or error}") from error
    except Exception as error:  # what torch raises depends on how the file is broken
        raise UserError(f"{key} is no checkpoint that can be read: {_reason(error)}") from error
    found = _find_weights(content)
    if found is None:
        kind = f"a dict of {', '.join(map(str, list(content)[:5]))}" if isinstance(content, dict) else type(content)
        raise UserError(f"{key} is no checkpoint: it holds {kind}, and no weights by their names")
    return (dict(content) if "state_dict" in content else {}) | {"state_dict": found}


def _reason(error: Exception) -> str:
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code:
        return (
            f"it holds {code[1]}, which is code, and may do anything; save the weights alone, "
            "torch.save(model.state_dict(), FILE), where the file comes from"
        )
    return first_paragraph(error)[:200]


def _find_weights(content: Any, depth: int = 2) -> dict[str, Tensor] | None:
    """The tensors by name in a file's content: of the content itself, or of a dict in it."""
    if not isinstance(content, Mapping):
        return None
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors and "state_dict" not in content:
        return tensors
    names = [*(name for name in NESTED if name in content), *content]
    found = (_find_weights(content[name], depth - 1) for name in dict.fromkeys(names) if depth)
    return next((weights for weights in found if weights), None)


def is_plain(content: Mapping[str, Any]) -> bool:
    """Whether weights are of another program, which say nothing about data."""
    return "pytorch-lightning_version" not in content


def adopt_inputs(model: Any, data: Any, source: str | bool, content: Mapping[str, Any] | None = None) -> Any:
    """Let data convert their inputs as given weights know them; return the preprocessing of a checkpoint.

    Args:
        source: a file, or True for the weights that come with the model's network.
        content: of the file, where it has been read.

    Returns:
        None if it is unknown.
    """
    if not isinstance(data, Data):
        return None
    content = {} if source is True else content or read_pretrained(str(source))
    if is_plain(content):
        _adopt_normalization(model, data)
        return None
    preprocess = saved_preprocess(content, Path(str(source)))
    if preprocess is not None:
        try:
            data.adopt_inputs(preprocess)
        except UserError as error:
            raise UserError(f"model.pretrained={source}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:  # of another kind of data
            raise UserError(
                f"model.pretrained={source} was not trained on data as {type(data).__name__} reads them: its "
                f"preprocessing lacks {error}"
            ) from error
    return preprocess


def _adopt_normalization(model: Any, data: Data) -> None:
    """Use the mean and std of the images that a library's network was trained on."""
    known = model.weights_normalization()
    if known is None or not isinstance(data, ImageData):
        return
    before = data.mean, data.std
    data.adopt_inputs(known)
    if before != (data.mean, data.std):
        log.info("to keep data.mean and data.std, type model.normalization=data")


def load_pretrained(model: Any, task: Task, data: Any, source: str | bool) -> str:
    """Set the weights of a model to given ones where they fit; return what was set, for the log.

    Args:
        source: a file, or True for those that come with the model's network (`Model.library_weights`).
    """
    if source is True:
        weights, path = model.library_weights()
        content: dict[str, Any] = {"state_dict": weights}
    else:
        content, path = read_pretrained(str(source)), str(source)
    given, own = model.adapt_names(content["state_dict"]), model.state_dict()
    given.pop(BALANCE, None)
    pairs = match_names(given, own)
    notes = list[str]()
    fitting = dict[str, Tensor]()
    for name, theirs in pairs.items():
        value, note = model.adapt_weight(name, given[theirs], own[name])
        notes += [note] if note else []
        fitting |= {name: value} if value.shape == own[name].shape else {}
    check_outputs(task, content)
    preprocess = adopt_inputs(model, data, source, content)
    old, new = list((preprocess or {}).get("names", [])), list(getattr(data, "names", []))
    note = ""
    if old and new and old != new and task.num_outputs is not None:
        if isinstance(task, LanguageModel):
            raise UserError(
                f"model.pretrained={path} predicts other tokens than these data have, or in another order: give a "
                "checkpoint of the same tokens"
            )
        dims = class_dims(model, task)
        moved = _move_rows(own, {name: given[theirs] for name, theirs in pairs.items()}, dims, old, new)
        fitting = {key: value for key, value in fitting.items() if key not in dims} | moved
        note = _note(list(dims), [name for name in new if name in old] if moved else [], new)
    if not fitting:
        raise UserError(
            f"model.pretrained={path} holds no weight that fits {type(model).__name__}: its weights are "
            f"{shorten([*given][:3])}, and those of the model {shorten([*own][:3])}"
        )
    model.load_state_dict(fitting, strict=False)
    lines = [f"{len(fitting)} of {len(own)} weights start from {path}{note}", *(f"  {note}" for note in notes)]
    return "\n".join([*lines, *report([*fitting], own, given, pairs)])


def class_dims(model: Any, task: Task) -> dict[str, int]:
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
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    dims: Mapping[str, int],
    old: Sequence[str],
    new: Sequence[str],
) -> dict[str, Tensor]:
    """The weights that depend on the classes, with the rows of the classes that a checkpoint knows.

    Empty, so that all of them start afresh, if it knows no class, or if one of them has not a row a class.
    """
    names = [name for name in new if name in old]
    to, origin = (torch.tensor([order.index(name) for name in names], dtype=torch.long) for order in (new, old))
    moved = {}
    for key, dim in dims.items():
        wanted = [len(old) if place == dim else size for place, size in enumerate(own[key].shape)]
        if not names or own[key].shape[dim] != len(new) or key not in given or list(given[key].shape) != wanted:
            return {}
        rows = given[key].index_select(dim, origin).to(own[key])
        moved[key] = own[key].clone().index_copy(dim, to, rows)
    return moved


def _note(keys: Sequence[str], known: Sequence[str], new: Sequence[str]) -> str:
    """What became of the weights that depend on the classes."""
    afresh = [name for name in new if name not in known]
    parts = [f"rows of {shorten(known)} by name"] if known else []
    parts += [f"{shorten(afresh)} {'starts' if len(afresh) == 1 else 'start'} afresh"] if afresh else []
    return f"; {', '.join(keys)}: {'; '.join(parts)}"
