"""Whether model, data and task fit each other, from their configs alone. Imports nothing heavy."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from train_smarter.errors import did_you_mean

# What a model or a task may need of the data: the key, and what it stands for.
NEEDS = {
    "data.shape": "data of one shape (data.shape)",
    "data.vocab_size": "tokens (data.vocab_size)",
    "data.num_classes": "classes (data.num_classes)",
    "data.num_targets": "numbers as targets (data.num_targets)",
    **dict.fromkeys(("data.num_users", "data.num_items"), "users and items (data.num_users, data.num_items)"),
}
FACTS = {  # keys of data that hold a number, and what it counts
    "vocab_size": "tokens",
    "num_classes": "classes",
    "num_targets": "numbers as targets",
    "num_users": "users",
    "num_items": "items",
}
IMAGES = "images (data.shape=[C, H, W])"
# What a network returns one vector for (`output_per` of a model and of a task).
OUTPUT_PER = {
    "example": "one output vector an example",
    "token": "one output vector a token",
    "pixel": "one output vector a pixel",
    "value": "outputs of the inputs' shape",
    "pair": "one score for a user and an item",
    "user": "scores of all items for a user",
}


def explain_misfit(cfg: DictConfig, chosen: Mapping[str, str], path: str, raw: str) -> str:
    """Why a value of a model or task cannot be had from the data; "" where that is not the cause.

    Args:
        chosen: the choice of each group.
        path: of the value, for example "model.vocab_size".
        raw: the value, unresolved, for example "${data.vocab_size}".
    """
    user, wanted = path.split(".")[0], re.findall(r"\$\{(\w+\.[\w.]+)\}", raw)
    if user not in chosen or len(wanted) != 1:
        return ""
    group = wanted[0].split(".")[0]
    if group not in chosen:
        return ""
    needed = IMAGES if raw.startswith("${image_shape:") else NEEDS.get(wanted[0], wanted[0])
    given = ", ".join(_describe(cfg.get(group))) or "none of the usual facts"
    return f"{user}={chosen[user]} does not fit {group}={chosen[group]}: it needs {needed}; the {group} has {given}"


def explain_choice(parent: Any, path: str, raw: str) -> str:
    """Why `${.releases.${.release}.num_users}` has no value: there is no such release; "" where that is not the cause.

    Args:
        parent: the config that holds the value.
        path: of the value, for example "data.num_users".
    """
    if (match := re.fullmatch(r"\$\{\.(\w+)\.\$\{\.(\w+)\}\.\w+\}", raw)) is None:
        return ""
    table, given = parent.get(match[1]), parent.get(match[2])
    if not isinstance(table, DictConfig) or given in table:
        return ""
    known = [str(name) for name in table]
    key = f"{path.rpartition('.')[0]}.{match[2]}"
    return f"{key}={given}: give one of {', '.join(known)}{did_you_mean(str(given), known)}"


def _describe(data: Any) -> Iterator[str]:
    """What a config says about its data."""
    shape = _value(data, "shape")
    if isinstance(shape, list | ListConfig):
        kind = f"{shape[0]} numbers an example" if len(shape) == 1 else "examples of one shape"
        yield f"{kind} (data.shape=[{', '.join(map(str, shape))}])"
    for key, kind in FACTS.items():
        if (fact := _value(data, key)) is not None:
            yield f"{kind} (data.{key}={fact})"


def _value(data: Any, key: str) -> Any:
    """A value, or None where it is open or cannot be had: the check names that by itself."""
    try:
        return OmegaConf.select(data, key, throw_on_missing=False)
    except OmegaConfBaseException:
        return None


def check_outputs(cfg: DictConfig, chosen: Mapping[str, str]) -> Iterator[str]:
    """A network that returns a vector for each pixel, say, where the task needs one for each example."""
    given, needed = (OmegaConf.select(cfg, f"{group}.output_per") for group in ("model", "task"))
    several = list(given) if isinstance(given, ListConfig) else [given]
    for group, value in (*(("model", one) for one in several), ("task", needed)):
        if value is not None and value not in OUTPUT_PER:
            yield f"{group}.output_per={value}: give one of {', '.join(OUTPUT_PER)}, or null"
            return
    if None in several or needed is None or needed in several:
        return
    model, data, task = (chosen.get(group, "?") for group in ("model", "data", "task"))
    returned = " or ".join(OUTPUT_PER[one] for one in several)
    yield (
        f"model={model} does not fit data={data} with task={task}: it returns {returned}, but the task needs "
        f"{OUTPUT_PER[needed]}; give another model=... or task=..."
    )


def check_tokenizer(cfg: DictConfig, chosen: Mapping[str, str]) -> Iterator[str]:
    """A model that brings its tokenizer, where the data are no texts."""
    data = cfg.get("data")
    if isinstance(data, DictConfig) and "tokenizer" in data and data.get("tokenizer") is None:
        yield "model.name=None: give a folder, or a name on huggingface.co, whose network and tokenizer are used"
    if isinstance(data, DictConfig) and "tokenizer" in data and "truncation_side" not in data:
        model = chosen.get("model", "?")
        yield (
            f"model={model} does not fit data={chosen.get('data', '?')}: it needs texts; the data has "
            f"{', '.join(_describe(data)) or 'none'}"
        )
