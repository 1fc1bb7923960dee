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

from train_smarter.errors import UserError, nearest
from train_smarter.metric_names import METRICS, OBJECTIVES, _better
from train_smarter.run.trial import ticket

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _some(values: Any, known: list[str]) -> bool:
    return isinstance(values, ListConfig) and len(values) == len(set(values)) > 0 and set(values) <= set(known)


Rule = tuple[Callable[[Any], bool], str]
COUNT: Rule = (lambda v: _whole(v) and v >= 1, "a whole number of at least 1")
SHARE: Rule = (lambda v: _number(v) and 0 <= v < 1, "a number from 0 to below 1")
PIECE: Rule = (lambda v: _number(v) and 0 < v < 1, "a number between 0 and 1")
LIMIT: Rule = (lambda v: _whole(v) and v >= -1 and v != 0, "a whole number of at least 1, or -1")
SWITCH: Rule = (lambda v: isinstance(v, bool), "true or false")
POSITIVE: Rule = (lambda v: _number(v) and v > 0, "a number above 0")
SEED: Rule = (lambda v: _whole(v) and 0 <= v < 2**32, "a whole number from 0 to 4294967295")
NOT_NEGATIVE: Rule = (lambda v: _number(v) and v >= 0, "a number of at least 0")


def _or_null(rule: Rule) -> Rule:
    return (lambda v: v is None or rule[0](v), f"{rule[1]}, or null")


# Keys that most configs have, and what they accept. A key that is absent is not asked for.
RULES: dict[str, Rule] = {
    "seed": _or_null(SEED),
    "data.split_seed": SEED,
    "mode": (lambda v: v in ("min", "max"), "min or max"),
    "threads": _or_null(COUNT),
    "train": SWITCH,
    "test": SWITCH,
    "data.batch_size": COUNT,
    "data.eval_batch_size": COUNT,
    "data.val_fraction": PIECE,
    "data.test_fraction": PIECE,
    "data.folds": (lambda v: _whole(v) and v >= 2, "a whole number of at least 2"),
    "data.fold": _or_null((lambda v: _whole(v) and v >= 0, "a whole number from 0 to data.folds - 1")),
    "data.length": COUNT,
    "data.vocab_size": (lambda v: _whole(v) and v >= 3, "a whole number of at least 3"),
    "model.dropout": SHARE,
    "model.label_smoothing": SHARE,
    "model.hidden": COUNT,
    "model.share": NOT_NEGATIVE,
    "model.batch_norm": SWITCH,
    "model.compile": _or_null((lambda v: v in COMPILE_MODES, "one of " + ", ".join(COMPILE_MODES))),
    "data.on_device": _or_null(SWITCH),
    "data.download": SWITCH,
    "optimizer.lr": POSITIVE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "scheduler.interval": (lambda v: v in ("step", "epoch"), "step or epoch"),
    "scheduler.warmup": (lambda v: _whole(v) and v >= 0, "a whole number of at least 0"),
    "trainer.max_epochs": _or_null(LIMIT),
    "trainer.max_steps": LIMIT,
    "trainer.accumulate_grad_batches": COUNT,
    "trainer.gradient_clip_val": _or_null(POSITIVE),
    "trainer.log_every_n_steps": COUNT,
    "callbacks.early_stopping.patience": COUNT,
    "split": (lambda v: _some(v, ["train", "val", "test"]), "some of [train,val,test]"),
}

# Loggers that come with an extra of the same name, and the module that it brings.
EXTRAS = {"wandb": "wandb", "mlflow": "mlflow", "comet": "comet_ml"}


def check(cfg: DictConfig) -> None:
    """Raises a UserError that lists every problem of a composed config; imports nothing heavy."""
    problems = [*dict.fromkeys(_unresolved(cfg))] or [
        *_out_of_range(cfg),
        *(list(_unfit_metric(cfg)) or _unfit_objective(cfg)),
        *_unfit_run(cfg),
        *_not_installed(cfg),
    ]
    if problems:
        raise UserError(problems[0] if len(problems) == 1 else "\n  ".join([f"{len(problems)} problems:", *problems]))


def choices() -> dict[str, str]:
    """What was chosen for each group, for example {"data": "digits"}."""
    chosen = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return {str(group): str(choice) for group, choice in chosen.items()}


def _leaves(node: Any, path: str = "") -> Iterator[tuple[DictConfig | ListConfig, Any, str]]:
    keys = range(len(node)) if isinstance(node, ListConfig) else list(node)
    for key in keys:
        here = f"{path}.{key}" if path else str(key)
        child = node._get_node(key)
        if isinstance(child, DictConfig | ListConfig) and not (child._is_none() or child._is_interpolation()):
            yield from _leaves(child, here)
        else:
            yield node, key, here


def _unresolved(cfg: DictConfig) -> Iterator[str]:
    """Values left open (`???`), and interpolations that lead nowhere: a model that needs what the data has not."""
    seen = set()
    for parent, key, path in _leaves(cfg):
        if OmegaConf.is_missing(parent, key):
            yield f"{path} has no value yet: type {path}=..."
            continue
        try:
            _ = parent[key]
        except InterpolationKeyError as error:
            wanted = str(OmegaConf.to_container(parent, resolve=False)[key]).strip("${}")  # type: ignore[index]
            if wanted not in seen:
                seen.add(wanted)
                yield _missing_fact(path, wanted) or f"{path}: {str(error).splitlines()[0]}"
        except InterpolationToMissingValueError:
            continue  # the value itself is named
        except InterpolationResolutionError as error:
            first, _, told = str(error).splitlines()[0].partition("UserError raised while resolving interpolation: ")
            yield told or f"{path}: {first}"
        except OmegaConfBaseException as error:
            yield f"{path}: {str(error).splitlines()[0]}"


def _missing_fact(path: str, wanted: str) -> str:
    group, user = wanted.split(".")[0], path.split(".")[0]
    chosen = choices()
    if group not in chosen or user not in chosen:
        return ""
    return f"{user}={chosen[user]} does not fit {group}={chosen[group]}: it needs {wanted}, which this {group} has not"


def _out_of_range(cfg: DictConfig) -> Iterator[str]:
    for key, (accepts, accepted) in RULES.items():
        *parents, name = key.split(".")
        parent = OmegaConf.select(cfg, ".".join(parents)) if parents else cfg
        if isinstance(parent, DictConfig) and name in parent and not accepts(parent[name]):
            yield f"{key}={parent[name]!r}: give {accepted}"
    fold, folds = OmegaConf.select(cfg, "data.fold"), OmegaConf.select(cfg, "data.folds")
    if _whole(fold) and _whole(folds) and fold >= folds:
        yield f"data.fold={fold}: with data.folds={folds}, give 0 to {folds - 1}"


def _unfit_metric(cfg: DictConfig) -> Iterator[str]:
    if cfg.get("monitor") not in METRICS:
        hint = nearest(str(cfg.get("monitor")), METRICS)
        yield f"monitor={cfg.get('monitor')!r}: give one of {', '.join(METRICS)}{hint}"
    elif cfg.get("mode") == ("max" if cfg.monitor.endswith("loss") else "min"):
        yield f"mode={cfg.mode} with monitor={cfg.monitor} would keep the worst: type mode={_better(cfg.monitor)}"
    elif cfg.monitor.startswith("val/") and OmegaConf.select(cfg, "trainer.limit_val_batches") == 0:
        yield f"monitor={cfg.monitor} is not measured with trainer.limit_val_batches=0: type monitor=train/accuracy"


def _unfit_objective(cfg: DictConfig) -> Iterator[str]:
    wanted = cfg.get("objective", cfg.get("monitor"))
    for name in wanted if isinstance(wanted, ListConfig) else [wanted]:
        if name not in OBJECTIVES:
            yield f"objective={name}: give one or more of {', '.join(OBJECTIVES)}{nearest(str(name), OBJECTIVES)}"


def _unfit_run(cfg: DictConfig) -> Iterator[str]:
    if "run" in cfg or cfg.get("resume"):
        return  # a past run needs none of the files that it started from
    if not cfg.get("train") and not cfg.get("ckpt_path"):
        yield "train=false needs a checkpoint to evaluate: add ckpt_path=<file>, or type evaluate run=last"
    for key in ("ckpt_path", "model.pretrained"):
        path = OmegaConf.select(cfg, key)
        if path and not Path(str(path)).expanduser().is_file():
            yield f"{key}={path}: there is no such file"
    multirun = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    inside = multirun and not str(HydraConfig.get().launcher.get("_target_")).endswith(".ProcessLauncher")
    if inside and _several_processes(cfg.trainer):
        yield "in a multirun, a job of several processes is a process of its own: add hydra/launcher=process"
    search = choices().get("search", "none")
    if search != "none" and not multirun and ticket() is None:
        yield f"search={search} is many runs: type train -m search={search}, or leave it out"


def _several_processes(trainer: DictConfig) -> bool:
    devices, strategy = trainer.get("devices", 1), trainer.get("strategy", "auto")
    one = (1, "1", None, *(["auto"] if trainer.get("accelerator") == "cpu" else []))
    many = len(devices) > 1 if isinstance(devices, ListConfig) else devices not in one
    return many or trainer.get("num_nodes", 1) > 1 or (strategy != "auto" and devices != 1)


def _not_installed(cfg: DictConfig) -> Iterator[str]:
    if "run" in cfg:
        return  # what reads a past run logs nothing
    for name in cfg.get("logger") or {}:
        module = EXTRAS.get(str(name))
        if module and cfg.logger[name] is not None and importlib.util.find_spec(module) is None:
            yield f"logger={name} needs a package that is not installed: uv pip install -e '.[{name}]'"
