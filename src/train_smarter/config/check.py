"""Holds a composed config against what a run accepts: every problem found, in one message, before anything heavy."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    OmegaConfBaseException,
)

from train_smarter.config.fit_pairs import check_outputs, explain_misfit
from train_smarter.errors import UserError, did_you_mean
from train_smarter.metric_names import RUN_VALUES, guess_mode, mode_of, monitor_names, task_metrics
from train_smarter.run.run_dir import task_overrides
from train_smarter.run.trial import current_trial

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_subset(values: Any, known: list[str]) -> bool:
    return isinstance(values, ListConfig) and len(values) == len(set(values)) > 0 and set(values) <= set(known)


Rule = tuple[Callable[[Any], bool], str]
POSITIVE_INT: Rule = (lambda v: _is_int(v) and v >= 1, "a whole number of at least 1")
FRACTION_FROM_0: Rule = (lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to below 1")
OPEN_FRACTION: Rule = (lambda v: _is_number(v) and 0 < v < 1, "a number between 0 and 1")
INT_OR_MINUS_1: Rule = (lambda v: _is_int(v) and v >= -1 and v != 0, "a whole number of at least 1, or -1")
BOOL: Rule = (lambda v: isinstance(v, bool), "true or false")
POSITIVE_NUMBER: Rule = (lambda v: _is_number(v) and v > 0, "a number above 0")
SEED_RANGE: Rule = (lambda v: _is_int(v) and 0 <= v < 2**32, "a whole number from 0 to 4294967295")
NON_NEGATIVE_INT: Rule = (lambda v: _is_number(v) and v >= 0, "a number of at least 0")


def _or_null(rule: Rule) -> Rule:
    return (lambda v: v is None or rule[0](v), f"{rule[1]}, or null")


# Keys that most configs have, and what they accept. A key that is absent is not asked for.
RULES: dict[str, Rule] = {
    "seed": _or_null(SEED_RANGE),
    "data.split_seed": SEED_RANGE,
    "mode": (lambda v: v in ("min", "max"), "min or max"),
    "speed": BOOL,
    "num_threads": _or_null(POSITIVE_INT),
    "train": BOOL,
    "test": BOOL,
    "data.batch_size": POSITIVE_INT,
    "data.eval_batch_size": POSITIVE_INT,
    "data.val_fraction": OPEN_FRACTION,
    "data.test_fraction": OPEN_FRACTION,
    "data.folds": (lambda v: _is_int(v) and v >= 2, "a whole number of at least 2"),
    "data.fold": _or_null((lambda v: _is_int(v) and v >= 0, "a whole number from 0 to data.folds - 1")),
    "data.max_length": POSITIVE_INT,
    "data.vocab_size": (lambda v: _is_int(v) and v >= 3, "a whole number of at least 3"),
    "model.dropout": FRACTION_FROM_0,
    "task.label_smoothing": FRACTION_FROM_0,
    "model.hidden": POSITIVE_INT,
    "model.lstm_weight": NON_NEGATIVE_INT,
    "model.batch_norm": BOOL,
    "model.compile": _or_null((lambda v: v in COMPILE_MODES, "one of " + ", ".join(COMPILE_MODES))),
    "data.on_device": _or_null(BOOL),
    "data.download": BOOL,
    "optimizer.lr": POSITIVE_NUMBER,
    "optimizer.weight_decay": NON_NEGATIVE_INT,
    "scheduler.interval": (lambda v: v in ("step", "epoch"), "step or epoch"),
    "scheduler.warmup": (lambda v: _is_int(v) and v >= 0, "a whole number of at least 0"),
    "trainer.max_epochs": _or_null(INT_OR_MINUS_1),
    "trainer.max_steps": INT_OR_MINUS_1,
    "trainer.accumulate_grad_batches": POSITIVE_INT,
    "trainer.gradient_clip_val": _or_null(POSITIVE_NUMBER),
    "trainer.log_every_n_steps": POSITIVE_INT,
    "callbacks.early_stopping.patience": POSITIVE_INT,
    "splits": (lambda v: _is_subset(v, ["train", "val", "test"]), "some of [train,val,test]"),
}

# Loggers that come with an extra of the same name, and the module that it brings.
OPTIONAL_LOGGERS = {"wandb": "wandb", "mlflow": "mlflow", "comet": "comet_ml"}


def check(cfg: DictConfig) -> None:
    """Raises a UserError that lists every problem of a composed config; imports nothing heavy."""
    problems = [*dict.fromkeys(_check_interpolations(cfg))] or [
        *check_outputs(cfg, choices()),
        *_check_ranges(cfg),
        *(list(_check_monitor(cfg)) or _check_objective(cfg)),
        *_check_run(cfg),
        *_check_plateau(cfg),
        *_check_packages(cfg),
    ]
    if problems:
        raise UserError(problems[0] if len(problems) == 1 else "\n  ".join([f"{len(problems)} problems:", *problems]))


def choices() -> dict[str, str]:
    """What was chosen for each group, for example {"data": "digits"}."""
    chosen = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return {str(group): str(choice) for group, choice in chosen.items()}


def _iter_leaves(node: Any, path: str = "") -> Iterator[tuple[DictConfig | ListConfig, Any, str]]:
    keys = range(len(node)) if isinstance(node, ListConfig) else list(node)
    for key in keys:
        here = f"{path}.{key}" if path else str(key)
        child = node._get_node(key)
        if isinstance(child, DictConfig | ListConfig) and not (child._is_none() or child._is_interpolation()):
            yield from _iter_leaves(child, here)
        else:
            yield node, key, here


def _check_interpolations(cfg: DictConfig) -> Iterator[str]:
    """Values left open (`???`), and interpolations that lead nowhere: a model that needs what the data has not."""
    seen = set()
    for parent, key, path in _iter_leaves(cfg):
        if OmegaConf.is_missing(parent, key):
            yield f"{path} has no value yet: type {path}=..."
            continue
        try:
            _ = parent[key]
        except InterpolationToMissingValueError:
            continue  # the value itself is named
        except (InterpolationKeyError, InterpolationResolutionError) as error:
            raw = str(OmegaConf.to_container(parent, resolve=False)[key])  # type: ignore[index]
            first, _, told = str(error).splitlines()[0].partition("UserError raised while resolving interpolation: ")
            if raw not in seen:
                seen.add(raw)
                misfit = "" if told and "${image_shape:" not in raw else explain_misfit(cfg, choices(), path, raw)
                yield misfit or told or f"{path}: {first}"
        except OmegaConfBaseException as error:
            yield f"{path}: {str(error).splitlines()[0]}"


def _check_ranges(cfg: DictConfig) -> Iterator[str]:
    for key, (accepts, accepted) in RULES.items():
        *parents, name = key.split(".")
        parent = OmegaConf.select(cfg, ".".join(parents)) if parents else cfg
        if isinstance(parent, DictConfig) and name in parent and not accepts(parent[name]):
            yield f"{key}={parent[name]!r}: give {accepted}"
    fold, folds = OmegaConf.select(cfg, "data.fold"), OmegaConf.select(cfg, "data.folds")
    if _is_int(fold) and _is_int(folds) and fold >= folds:
        yield f"data.fold={fold}: with data.folds={folds}, give 0 to {folds - 1}"


def _check_monitor(cfg: DictConfig) -> Iterator[str]:
    metrics = task_metrics(cfg)
    known, monitor = monitor_names(metrics), str(cfg.get("monitor"))
    if not cfg.get("task"):  # a LightningModule: what it logs is known at its first validation
        if "run" not in cfg and _is_guessed(cfg, "mode") and guess_mode(monitor) is None:
            yield f"monitor={monitor}: type mode=min if less of it is better, or mode=max"
        return
    if monitor not in known:
        yield f"monitor={cfg.get('monitor')!r}: give one of {', '.join(known)}{did_you_mean(monitor, known)}"
    elif cfg.get("mode") in ("min", "max") and cfg.mode != mode_of(monitor, metrics):
        yield f"mode={cfg.mode} with monitor={monitor} would keep the worst: type mode={mode_of(monitor, metrics)}"
    elif monitor.startswith("val/") and OmegaConf.select(cfg, "trainer.limit_val_batches") == 0:
        train = monitor.replace("val/", "train/", 1)
        yield f"monitor={monitor} is not measured with trainer.limit_val_batches=0: type monitor={train}"


def _is_guessed(cfg: DictConfig, key: str) -> bool:
    node = cfg._get_node(key)
    return node is not None and bool(node._is_interpolation())


def _check_objective(cfg: DictConfig) -> Iterator[str]:
    wanted, known = cfg.get("optimized_metric", cfg.get("monitor")), [*monitor_names(task_metrics(cfg)), *RUN_VALUES]
    for name in (wanted if isinstance(wanted, ListConfig) else [wanted]) if cfg.get("task") else []:
        if name not in known:
            yield f"optimized_metric={name}: give one or more of {', '.join(known)}{did_you_mean(str(name), known)}"


def _check_run(cfg: DictConfig) -> Iterator[str]:
    if "run" in cfg or cfg.get("resume"):
        return  # a past run needs none of the files that it started from
    if not cfg.get("train") and not cfg.get("ckpt_path"):
        yield "train=false needs a checkpoint to evaluate: add ckpt_path=<file>, or type evaluate run=last"
    for key in ("ckpt_path", "model.pretrained"):
        path = OmegaConf.select(cfg, key)
        if path and not Path(str(path)).expanduser().is_file():
            yield f"{key}={path}: there is no such file"
    yield from _check_unused_groups(cfg)
    multirun = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    inside = multirun and not str(HydraConfig.get().launcher.get("_target_")).endswith(".ProcessLauncher")
    if inside and _is_multiprocess(cfg.trainer):
        yield "in a multirun, a job of several processes is a process of its own: add hydra/launcher=process"
    search = choices().get("search", "none")
    if search != "none" and not multirun and current_trial() is None:
        yield f"search={search} is many runs: type train -m search={search}, or leave it out"


def _check_unused_groups(cfg: DictConfig) -> Iterator[str]:
    """Overrides of a group that the model does not take: they would change nothing."""
    typed = task_overrides() if HydraConfig.initialized() else []
    for group in ("optimizer", "scheduler"):
        unused = [word for word in typed if word.startswith((f"{group}=", f"{group}."))]
        if unused and group not in (cfg.get("model") or {}):
            name = choices().get("model", "...")
            yield (
                f"{unused[0]} has no effect: model={name} makes its own {group}; to pass it this one, add "
                f"`{group}: ${{{group}}}` to conf/model/{name}.yaml"
            )


def _check_plateau(cfg: DictConfig) -> Iterator[str]:
    """A plateau schedule that would look at its metric between two measurements, or for a metric that has none."""
    monitor = OmegaConf.select(cfg, "scheduler.monitor")
    if monitor is None:
        return
    if cfg.scheduler.get("interval") == "step":
        yield "scheduler=plateau looks at a metric of an epoch, not of a step: type scheduler.interval=epoch"
    unmeasured = str(monitor).startswith("val/") and OmegaConf.select(cfg, "trainer.limit_val_batches") == 0
    if unmeasured and monitor != cfg.get("monitor"):  # that one is named already
        train = str(monitor).replace("val/", "train/", 1)
        yield (
            f"scheduler.monitor={monitor} is not measured with trainer.limit_val_batches=0: type "
            f"scheduler.monitor={train}"
        )


def _is_multiprocess(trainer: DictConfig) -> bool:
    devices, strategy = trainer.get("devices", 1), trainer.get("strategy", "auto")
    one = (1, "1", None, *(["auto"] if trainer.get("accelerator") == "cpu" else []))
    many = len(devices) > 1 if isinstance(devices, ListConfig) else devices not in one
    return many or trainer.get("num_nodes", 1) > 1 or (strategy != "auto" and devices != 1)


def _check_packages(cfg: DictConfig) -> Iterator[str]:
    if "run" in cfg:
        return  # what reads a past run logs nothing
    for name in cfg.get("logger") or {}:
        module = OPTIONAL_LOGGERS.get(str(name))
        if module and cfg.logger[name] is not None and importlib.util.find_spec(module) is None:
            yield f"logger={name} needs a package that is not installed: uv pip install -e '.[{name}]'"
