"""Holds a composed config against what a run accepts: every problem found, in one message, before anything heavy."""

import importlib.util
import math
from collections.abc import Iterator
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

from train_smarter import paths
from train_smarter.config.fit_pairs import check_outputs, check_tokenizer, explain_choice, explain_misfit
from train_smarter.config.processes import check_processes
from train_smarter.config.rules import LIMIT, check_ranges, is_int, is_number
from train_smarter.errors import UserError, did_you_mean
from train_smarter.metric_names import RUN_VALUES, guess_mode, mode_of, monitor_names, task_metrics
from train_smarter.run.run_dir import task_overrides
from train_smarter.run.trial import current_trial

# Loggers that come with an extra of the same name, and the module that it brings.
OPTIONAL_LOGGERS = {"wandb": "wandb", "mlflow": "mlflow", "comet": "comet_ml"}
UNFREEZING = ("model.unfreeze_epoch", "model.freeze", "trainer.max_epochs")


def check(cfg: DictConfig) -> None:
    """Raises a UserError that lists every problem of a composed config; imports nothing heavy."""
    problems = [*dict.fromkeys(_check_interpolations(cfg))] or [
        *check_outputs(cfg, choices()),
        *check_tokenizer(cfg, choices()),
        *check_ranges(cfg),
        *_check_fold(cfg),
        *_check_augmentations(cfg),
        *_check_class_weights(cfg),
        *_check_precision(cfg),
        *_check_trainer(cfg),
        *_check_unfreezing(cfg),
        *_check_tags(cfg),
        *check_processes(cfg),
        *(list(_check_monitor(cfg)) or _check_objective(cfg)),
        *_check_run(cfg),
        *_check_plateau(cfg),
        *_check_schedule_free(cfg),
        *_check_averages(cfg),
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
    seen, failed = set(), set()
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
            failed.add(f"${{{path}}}")
            if raw not in seen and raw not in failed:
                seen.add(raw)
                misfit = "" if told and "${image_shape:" not in raw else explain_misfit(cfg, choices(), path, raw)
                misfit = misfit or explain_choice(parent, path, raw)
                yield misfit or told or f"{path}: {first}"
        except OmegaConfBaseException as error:
            yield f"{path}: {str(error).splitlines()[0]}"


def _check_fold(cfg: DictConfig) -> Iterator[str]:
    fold, folds = OmegaConf.select(cfg, "data.fold"), OmegaConf.select(cfg, "data.folds")
    if is_int(fold) and is_int(folds) and fold >= folds:
        yield f"data.fold={fold}: with data.folds={folds}, give 0 to {folds - 1}"


def _check_augmentations(cfg: DictConfig) -> Iterator[str]:
    """A number in the place of an augmentation: it is the value of its first setting that is meant."""
    for name, value in (OmegaConf.select(cfg, "data.augment") or {}).items():
        if value is None or isinstance(value, DictConfig):
            continue
        known = OmegaConf.select(OmegaConf.load(paths.CONF / "data" / "_image.yaml"), f"augment.{name}") or {}
        setting = next((key for key in known if key != "_target_"), "<setting>")
        yield f"data.augment.{name}={value}: name the setting: type data.augment.{name}.{setting}={value}"


def _check_class_weights(cfg: DictConfig) -> Iterator[str]:
    balanced = OmegaConf.select(cfg, "task.class_weights") == "balanced"
    if balanced and OmegaConf.select(cfg, "data.sampler") == "balanced":
        yield (
            "data.sampler=balanced and task.class_weights=balanced each make the classes count the same, both together "
            "the rare ones more: give one of them"
        )
    for key, count, of in (("class_weights", "num_classes", "class"), ("pos_weight", "num_labels", "label")):
        weights, needed = (OmegaConf.select(cfg, f"task.{name}") for name in (key, count))
        if weights is None or (weights == "balanced" and key == "class_weights"):
            continue
        right = isinstance(weights, ListConfig) and all(is_number(one) and 0 <= one < math.inf for one in weights)
        if not right or not any(weights) or (is_int(needed) and len(weights) != needed):
            number = needed if is_int(needed) else "a list of"
            yield (
                f"task.{key}={weights}: give {number} numbers, one a {of}, of at least 0 and some of them above 0"
                + (", or balanced" * (key == "class_weights"))
            )


PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
SHORT_PRECISIONS = ("32", "bf16", "16", "64")


def _check_precision(cfg: DictConfig) -> Iterator[str]:
    """Whether losses can be averaged: a sum in 16 bits has 8 or 11 of them. Another LightningModule sums its own."""
    given = str(OmegaConf.select(cfg, "trainer.precision"))
    if "run" in cfg or given == "None":
        return
    if cfg.get("task") and given not in (*PRECISIONS, *SHORT_PRECISIONS):
        yield (
            f"trainer.precision={given}: give one of {', '.join(PRECISIONS)}; with another one, losses and metrics "
            "would be rounded to 16 bits or fewer"
        )
    elif given in ("16-mixed", "16") and cfg.trainer.get("accelerator") == "cpu":
        yield f"trainer.precision={given} needs a GPU: on a CPU, type trainer.precision=bf16-mixed"


def _check_trainer(cfg: DictConfig) -> Iterator[str]:
    """Settings of the trainer that exclude each other."""
    trainer = cfg.trainer
    for unit in ("epochs", "steps"):
        least, most = trainer.get(f"min_{unit}"), trainer.get(f"max_{unit}")
        if is_int(least) and is_int(most) and least > most > 0:
            yield f"trainer.min_{unit}={least} is more than trainer.max_{unit}={most}: raise max_{unit}"
    for stage in ("train", "test"):
        if cfg.get(stage, stage == "test") and is_number(limit := trainer.get(f"limit_{stage}_batches")) and limit == 0:
            yield (f"trainer.limit_{stage}_batches={limit}: give {LIMIT[1]}; or leave that part out, {stage}=false")
    interval = trainer.get("val_check_interval")
    if trainer.get("check_val_every_n_epoch", 1) is None and (interval is None or isinstance(interval, float)):
        yield (
            "trainer.check_val_every_n_epoch=null counts batches over all epochs: give a whole number of them, "
            f"trainer.val_check_interval=100, not {interval}"
        )
    yield from _check_schedule_end(cfg)


def _check_schedule_end(cfg: DictConfig) -> Iterator[str]:
    planned, interval = (OmegaConf.select(cfg, f"scheduler.{key}") for key in ("torch_scheduler", "interval"))
    ends = [cfg.trainer.get(key) for key in ("max_epochs", "max_steps") if key == "max_epochs" or interval == "step"]
    if planned and "auto" in planned.values() and not any(is_int(end) and end > 0 for end in ends):
        name = choices().get("scheduler", "...")
        yield f"scheduler={name} has to know how long the run is: set trainer.max_epochs or trainer.max_steps"


def _check_unfreezing(cfg: DictConfig) -> Iterator[str]:
    epoch, frozen, last = (OmegaConf.select(cfg, key) for key in UNFREEZING)
    if "run" in cfg or not is_int(epoch):
        return
    if frozen in ("none", None, 0):
        yield f"model.unfreeze_epoch={epoch} has no effect, since nothing is frozen: add model.freeze=backbone"
    elif is_int(last) and 0 < last <= epoch:
        yield (
            f"model.unfreeze_epoch={epoch}: the run ends before, with trainer.max_epochs={last}; give at most "
            f"{last - 1}"
        )


def _check_tags(cfg: DictConfig) -> Iterator[str]:
    tags = cfg.get("tags")
    if not isinstance(tags, ListConfig | None):
        yield f"tags={tags}: give a list, 'tags=[{tags if isinstance(tags, str) else 'a,b'}]'"
    elif wrong := [tag for tag in tags or () if not (isinstance(tag, str) or is_int(tag))]:
        yield f"tags={tags}: {wrong[0]!r} is not a word; put it in quotes, 'tags=[\"1e3\"]'"


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
    elif monitor.startswith("val/") and OmegaConf.select(cfg, "data.refit") is True and "run" not in cfg:
        yield (
            f"data.refit=true trains on validation, too, so monitor={monitor} cannot choose: type train refit=<run>, "
            "for the epochs of a past run"
        )
    elif monitor.startswith("val/") and OmegaConf.select(cfg, "trainer.limit_val_batches") == 0:
        train = monitor.replace("val/", "train/", 1)
        yield f"monitor={monitor} is not measured with trainer.limit_val_batches=0: type monitor={train}"
    for key in ("callbacks.checkpoint.monitor", "callbacks.early_stopping.monitor"):
        if (own := OmegaConf.select(cfg, key)) not in (None, cfg.get("monitor"), *known):
            yield f"{key}={own}: give one of {', '.join(known)}{did_you_mean(str(own), known)}"


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
        if isinstance(path, str) and path and not Path(path).expanduser().is_file():
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


def _check_schedule_free(cfg: DictConfig) -> Iterator[str]:
    if not str(OmegaConf.select(cfg, "optimizer._target_")).startswith("schedulefree."):
        return
    if importlib.util.find_spec("schedulefree") is None:
        yield "optimizer=schedulefree needs a package that is not installed: uv pip install -e '.[schedulefree]'"
    if cfg.get("scheduler") and "run" not in cfg:
        yield "optimizer=schedulefree has no schedule: type scheduler=none; optimizer.warmup_steps is its warm-up"


def _check_averages(cfg: DictConfig) -> Iterator[str]:
    name = choices().get("callbacks")
    if name in ("ema", "swa") and "run" not in cfg:
        yield f"callbacks={name} leaves out all others, so nothing would be saved: type 'callbacks=[default,{name}]'"


def _check_packages(cfg: DictConfig) -> Iterator[str]:
    target = str(OmegaConf.select(cfg, "model._target_"))
    if target.startswith("train_smarter.fit.timm_model.") and importlib.util.find_spec("timm") is None:
        yield "model=timm needs a package that is not installed: uv pip install -e '.[timm]'"
    if "run" in cfg:
        return  # what reads a past run logs nothing
    for name in cfg.get("logger") or {}:
        module = OPTIONAL_LOGGERS.get(str(name))
        if module and cfg.logger[name] is not None and importlib.util.find_spec(module) is None:
            yield f"logger={name} needs a package that is not installed: uv pip install -e '.[{name}]'"
