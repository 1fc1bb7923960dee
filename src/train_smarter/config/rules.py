"""What the values of a config's keys accept: by the whole key, or by its last word in a group."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")
LARGEST_INT = 2**63 - 1  # torch and NumPy count no further


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_INT


def _is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def _is_subset(values: Any, known: list[str]) -> bool:
    return isinstance(values, ListConfig) and len(values) == len(set(values)) > 0 and set(values) <= set(known)


def _is_limit(value: Any) -> bool:
    """Whether Lightning takes at least one batch by it: a share of the batches, or their number."""
    return (is_int(value) and value >= 1) or (isinstance(value, float) and 0 < value <= 1)


def _is_freeze(value: Any) -> bool:
    return (
        value in ("none", "backbone") or isinstance(value, bool) or (is_int(value) and value >= 0)
    )  # flags: of old runs


def _is_time(value: Any) -> bool:
    """days:hours:minutes:seconds, or the arguments of a timedelta."""
    if isinstance(value, DictConfig):
        return all(map(is_number, value.values()))
    return isinstance(value, str) and re.fullmatch(r"\d+:\d+:\d+:\d+", value) is not None


def _is_devices(value: Any) -> bool:
    if isinstance(value, ListConfig):
        return len(value) > 0 and all(is_int(one) and one >= 0 for one in value)
    return value == "auto" or re.fullmatch(r"-1|[1-9]\d*|\d+(,\d*)+", str(value)) is not None


Rule = tuple[Callable[[Any], bool], str]
POSITIVE_INT: Rule = (lambda v: is_int(v) and v >= 1, "a whole number of at least 1")
NON_NEGATIVE_INT: Rule = (lambda v: is_int(v) and v >= 0, "a whole number of at least 0")
FRACTION_FROM_0: Rule = (lambda v: is_number(v) and 0 <= v < 1, "a number from 0 to below 1")
OPEN_FRACTION: Rule = (lambda v: is_number(v) and 0 < v < 1, "a number between 0 and 1")
PROBABILITY: Rule = (lambda v: is_number(v) and 0 <= v <= 1, "a number from 0 to 1")
INT_OR_MINUS_1: Rule = (lambda v: is_int(v) and v >= -1 and v != 0, "a whole number of at least 1, or -1")
BOOL: Rule = (lambda v: isinstance(v, bool), "true or false")
ANY: Rule = (lambda _: True, "")
FINITE: Rule = (_is_finite, "a finite number")
POSITIVE_NUMBER: Rule = (lambda v: _is_finite(v) and v > 0, "a finite number above 0")
NON_NEGATIVE_NUMBER: Rule = (lambda v: _is_finite(v) and v >= 0, "a finite number of at least 0")
SEED_RANGE: Rule = (lambda v: is_int(v) and 0 <= v < 2**32, "a whole number from 0 to 4294967295")
LIMIT: Rule = (_is_limit, "a whole number of at least 1, or a share above 0 and up to 1.0")
LIMIT_OR_0: Rule = (lambda v: _is_limit(v) or (is_number(v) and v == 0), f"0, {LIMIT[1]}")
TIME: Rule = (_is_time, 'days:hours:minutes:seconds, for example "00:01:30:00"')


def _or_null(rule: Rule) -> Rule:
    return (lambda v: v is None or rule[0](v), f"{rule[1]}, or null")


def _if_number(rule: Rule) -> Rule:
    """The rule for numbers; a word or a flag is for the class to judge."""
    return (lambda v: not is_number(v) or rule[0](v), rule[1])


def _one_of(*words: str) -> Rule:
    return (lambda v: v in words, " or ".join([", ".join(words[:-1]), words[-1]]))


# By the whole key. A key that a config does not have is not looked at.
RULES: dict[str, Rule] = {
    "seed": _or_null(SEED_RANGE),
    "data.split_seed": SEED_RANGE,
    "mode": _one_of("min", "max"),
    "print_config": BOOL,
    "speed": BOOL,
    "report": BOOL,
    "inspect": (lambda v: v is None or isinstance(v, DictConfig), "null, or type debug=data"),
    "inspect.examples": POSITIVE_INT,
    "num_threads": _or_null((lambda v: is_int(v) and 1 <= v <= 4096, "a whole number from 1 to 4096")),
    "train": BOOL,
    "test": BOOL,
    "data.batch_size": _or_null(POSITIVE_INT),  # null is for the class to judge
    "data.eval_batch_size": POSITIVE_INT,
    "data.val_fraction": OPEN_FRACTION,
    "data.test_fraction": OPEN_FRACTION,
    "data.refit": BOOL,
    "data.target_fraction": OPEN_FRACTION,
    "data.min_value": _or_null(FINITE),
    "data.folds": (lambda v: is_int(v) and v >= 2, "a whole number of at least 2"),
    "data.fold": _or_null((lambda v: is_int(v) and v >= 0, "a whole number from 0 to data.folds - 1")),
    "data.max_length": POSITIVE_INT,
    "data.size": _if_number(POSITIVE_INT),  # of a data set of your own it may be a list
    "data.crop": _or_null(_if_number(POSITIVE_INT)),
    "data.vocab_size": _or_null((lambda v: is_int(v) and v >= 3, "a whole number of at least 3")),
    "data.shuffle": BOOL,
    "data.sampler": (lambda v: v in (None, "balanced"), "balanced, or null"),
    "data.on_device": _or_null(BOOL),
    "data.download": BOOL,
    "data.num_workers": _or_null(NON_NEGATIVE_INT),
    "data.cache": _or_null(_one_of("memory", "disk", "none")),
    "data.truncation_side": _one_of("left", "right"),
    "model.dropout": FRACTION_FROM_0,
    "model.hidden": POSITIVE_INT,
    "model.dim": _if_number(NON_NEGATIVE_INT),
    "model.l2": NON_NEGATIVE_NUMBER,
    "model.l2_bias": NON_NEGATIVE_NUMBER,
    "model.compile": _or_null(_one_of(*COMPILE_MODES)),
    "model.pretrained": (lambda v: v is None or isinstance(v, bool | str), "a file, true or null"),
    "model.freeze": (_is_freeze, "none, backbone, or a number of blocks"),
    "model.unfreeze_epoch": _or_null(POSITIVE_INT),
    "model.layer_decay": (lambda v: is_number(v) and 0 < v <= 1, "a number above 0 and up to 1"),
    "model.decay_norms": BOOL,
    "model.normalization": _one_of("weights", "data"),
    "model.download": BOOL,
    "task.label_smoothing": FRACTION_FROM_0,
    "task.threshold": OPEN_FRACTION,
    "task.dice_weight": PROBABILITY,
    "optimizer.lr": POSITIVE_NUMBER,
    "optimizer.weight_decay": NON_NEGATIVE_NUMBER,
    "optimizer.ns_steps": POSITIVE_INT,
    "find.min_lr": POSITIVE_NUMBER,
    "find.max_lr": POSITIVE_NUMBER,
    "find.steps": POSITIVE_INT,
    "find.min_size": POSITIVE_INT,
    "find.max_size": POSITIVE_INT,
    "find.min_steps": POSITIVE_INT,
    "scheduler.interval": _one_of("step", "epoch"),
    "scheduler.warmup": NON_NEGATIVE_INT,
    "trainer.max_epochs": _or_null(INT_OR_MINUS_1),
    "trainer.max_steps": INT_OR_MINUS_1,
    "trainer.max_time": _or_null(TIME),
    "trainer.accumulate_grad_batches": POSITIVE_INT,
    "trainer.gradient_clip_val": _or_null(POSITIVE_NUMBER),
    "trainer.gradient_clip_algorithm": _or_null(_one_of("norm", "value")),
    "trainer.log_every_n_steps": POSITIVE_INT,
    "trainer.limit_train_batches": _or_null(LIMIT_OR_0),
    "trainer.limit_val_batches": _or_null(LIMIT_OR_0),
    "trainer.limit_test_batches": _or_null(LIMIT_OR_0),
    "trainer.overfit_batches": LIMIT_OR_0,
    "trainer.fast_dev_run": (lambda v: isinstance(v, bool) or (is_int(v) and v >= 0), "true, false, or batches"),
    "trainer.num_sanity_val_steps": _or_null((lambda v: is_int(v) and v >= -1, "a whole number of at least -1")),
    "trainer.val_check_interval": _or_null(
        (
            lambda v: _is_limit(v) or _is_time(v),
            f"a share of the epoch above 0 and up to 1.0, a whole number of batches, or a time, {TIME[1]}",
        )
    ),
    "trainer.check_val_every_n_epoch": _or_null(POSITIVE_INT),
    "trainer.devices": (_is_devices, "auto, a whole number of at least 1, a list of devices, or -1 for all"),
    "trainer.num_nodes": POSITIVE_INT,
    "trainer.deterministic": _or_null((lambda v: isinstance(v, bool) or v == "warn", "true, false or warn")),
    "trainer.benchmark": _or_null(BOOL),
    "trainer.detect_anomaly": BOOL,
    "trainer.sync_batchnorm": BOOL,
    "trainer.enable_progress_bar": _or_null(BOOL),
    "trainer.use_distributed_sampler": _or_null(BOOL),
    "callbacks.early_stopping.patience": POSITIVE_INT,
    "callbacks.early_stopping.mode": _one_of("min", "max"),
    "callbacks.checkpoint.mode": _one_of("min", "max"),
    "callbacks.histograms.every_n_epochs": POSITIVE_INT,
    "callbacks.resume_checkpoint.every_n_steps": _or_null(POSITIVE_INT),
    "callbacks.learning_rate.logging_interval": _or_null(_one_of("step", "epoch")),
    "callbacks.progress.refresh_rate": NON_NEGATIVE_INT,
    "callbacks.prediction_samples.samples": NON_NEGATIVE_INT,
    "callbacks.diagnosis.samples": POSITIVE_INT,
    "tta": (lambda v: v in (None, "flip"), "flip, or null"),
    "splits": (lambda v: _is_subset(v, ["train", "val", "test"]), "some of [train,val,test]"),
}

# By the last word of a key, in the project's own models, data sets and callbacks, too: the usual names of the field.
# A list is checked value by value; null is for the class to judge.
SIZES = (
    r"hidden|units|widths?|depths?|channels|stride|num_(layers|heads|channels|classes|targets)|\w+_(dim|size|length)"
)
BY_NAME: dict[str, tuple[tuple[str, Rule], ...]] = {
    "data": (
        (SIZES, POSITIVE_INT),
        (r"size|length|rows|images|code", _if_number(POSITIVE_INT)),
        (r"std", _if_number(POSITIVE_NUMBER)),
        (r"mean", _if_number(FINITE)),
        (r"noise", _if_number(NON_NEGATIVE_NUMBER)),
    ),
    "data.augment": ((r"p|prob|probability", _if_number(PROBABILITY)),),
    "model": (
        (SIZES, POSITIVE_INT),
        (r"code", _if_number(POSITIVE_INT)),
        (r"\w*dropout|stochastic_depth", _if_number(FRACTION_FROM_0)),
        (r"noise|\w+_weight", _if_number(NON_NEGATIVE_NUMBER)),
        (r"batch_norm|bidirectional", BOOL),
    ),
    "optimizer": (
        (r"\w*lr", POSITIVE_NUMBER),
        (r"weight_decay|eps", NON_NEGATIVE_NUMBER),
        (r"momentum|betas?", FRACTION_FROM_0),
        (r"\w+", _if_number(FINITE)),
    ),
    "scheduler": (
        (r"\w*lr", POSITIVE_NUMBER),
        (r"step_size|T_max|total_steps|T_0", _if_number(POSITIVE_INT)),
        (r"patience|cooldown", NON_NEGATIVE_INT),
        (r"pct_start", PROBABILITY),
        (r"gamma", POSITIVE_NUMBER),
        (r"factor", (lambda v: is_number(v) and 0 < v <= 1, "a number above 0 and up to 1")),
        (r"\w+", _if_number(FINITE)),
    ),
    "trainer": ((r"\w+", _if_number(FINITE)),),
    "callbacks": (
        (r"every_n_\w+", NON_NEGATIVE_INT),
        (r"every_\w+", POSITIVE_NUMBER),
        (r"min_delta", FINITE),
        (r"decay", FRACTION_FROM_0),
        (r"start", NON_NEGATIVE_NUMBER),
        (r"interval", _one_of("step", "epoch")),
    ),
}
LISTS = r"(\w+_)?(widths|depths|dims|sizes|betas)"  # names of lists
TRAINING = ("optimizer", "scheduler", "callbacks")  # groups that only a training uses


def check_ranges(cfg: DictConfig) -> Iterator[str]:
    """The values that their rule does not accept; of a past run, those that reading it uses."""
    unused = TRAINING if "run" in cfg else ()
    refused: list[Any] = []
    for key, rule in RULES.items():
        *parents, name = key.split(".")
        parent = OmegaConf.select(cfg, ".".join(parents)) if parents else cfg
        if key.startswith(unused) or not isinstance(parent, DictConfig) or name not in parent:
            continue
        value, node = parent[name], parent._get_node(name)
        if rule[0](value) or (node._is_interpolation() and value in refused):  # type: ignore[union-attr]
            continue  # a copy of a value that is named already
        refused.append(value)
        yield _refusal(key, value, rule[1])
    for group, rules in BY_NAME.items():
        node = OmegaConf.select(cfg, group)
        if isinstance(node, DictConfig) and group not in unused:
            yield from _check_names(node, group, rules, deep=group not in ("data", "model"))


def _check_names(node: DictConfig, path: str, rules: tuple[tuple[str, Rule], ...], *, deep: bool) -> Iterator[str]:
    for name in map(str, node):
        value, key = node[name], f"{path}.{name}"
        if isinstance(value, DictConfig):
            yield from _check_names(value, key, rules, deep=True) if deep else ()
        elif re.fullmatch(LISTS, name) and is_number(value):
            yield f"{key}={value}: give a list, for example '{key}=[{value},{value}]'"
        elif key not in RULES:
            accepts, accepted = next((rule for names, rule in rules if re.fullmatch(names, name)), ANY)
            if not all(value is None or (accepts(value) and not _is_too_large(value)) for value in _values(value)):
                yield _refusal(key, value, accepted)


def _values(value: Any) -> Iterator[Any]:
    """A value, or those of a list and of lists in it."""
    if isinstance(value, ListConfig):
        for one in value:
            yield from _values(one)
    else:
        yield value


def _is_too_large(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > LARGEST_INT


def _refusal(key: str, value: Any, accepted: str) -> str:
    if any(map(_is_too_large, _values(value))):
        accepted = "a smaller number, below 2**63"
    return f"{key}={value!r}: give {accepted}{' each' if isinstance(value, ListConfig) else ''}"
