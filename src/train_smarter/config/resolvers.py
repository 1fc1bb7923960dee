"""Registers the resolvers that conf/ uses: to be imported by whatever resolves a config. Imports nothing heavy."""

from collections.abc import Sequence
from typing import Any

from omegaconf import ListConfig, OmegaConf

from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.metric_names import headline, mode_of, task_metrics

# Keys of data that are counted from the files.
COUNTED = ("shape", "num_classes", "num_targets", "num_users", "num_items")


def _count_classes(folder: str) -> int:
    """The number of classes of a folder. No file of conf/ uses it, but saved configs of runs of version 0.1.0 do."""
    from train_smarter.data.class_folders import class_names

    return len(class_names(folder))


def _target_type(*, _root_: Any) -> str | None:
    """What the task needs as targets, by its arguments; None: by what the target columns hold."""
    task = _root_.get("task") or {}
    arguments = {"num_targets": "numbers", "num_labels": "labels", "num_classes": "classes"}
    return next((kind for argument, kind in arguments.items() if argument in task), None)


def _interaction_rows(*, _root_: Any) -> str:
    """What a training example of users and items is, by the loss of the task."""
    loss = (_root_.get("task") or {}).get("loss")
    return {"bpr": "pairs", "softmax": "users"}.get(str(loss), "ratings")


def _count_interactions(key: str, *, _parent_: Any) -> int:
    """`num_users` or `num_items` of the files that the data's config names."""
    from train_smarter.data.interaction_files import count_names

    settings = {
        key: _parent_[key] for key in _parent_ if not OmegaConf.is_missing(_parent_, key) and key not in COUNTED
    }
    return count_names(settings)[key]


def _count_targets(key: str, *, _parent_: Any) -> int | None:
    """`num_classes` or `num_targets` of the target columns, images or masks that the data's config names."""
    if "masks" in _parent_:
        from train_smarter.data.image_source import ImageSource

        return ImageSource.of(_resolve_keys(_parent_, COUNTED)).count()[key]
    from train_smarter.data.table_source import count_targets

    return count_targets(_resolve_keys(_parent_, COUNTED))[key]


def _table_shape(*, _parent_: Any) -> list[int]:
    """[D] of the table that the data's config names: what a model receives of a row."""
    from train_smarter.data.tables import count_numbers

    return [count_numbers(_resolve_keys(_parent_, (*COUNTED, "_target_")))]


def _resolve_keys(config: Any, left_out: Sequence[str]) -> dict[str, Any]:
    """A config as plain values, without the keys that are being counted."""
    if missing := [key for key in config if OmegaConf.is_missing(config, key)]:
        raise UserError(f"data.{missing[0]} has no value yet: type data.{missing[0]}=...")
    values = {str(key): config[key] for key in config if key not in left_out}
    return {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in values.items()
    }


def _image_shape(shape: Any) -> Any:
    if not isinstance(shape, list | ListConfig) or len(shape) != 3:
        raise UserError(f"data.shape={shape}: this model needs images, data.shape=[C, H, W]")
    return shape


OmegaConf.register_resolver("project_root", lambda: str(paths.ROOT), replace=True)
OmegaConf.register_resolver("count_classes", _count_classes, replace=True)
OmegaConf.register_resolver("count_targets", _count_targets, replace=True)
OmegaConf.register_resolver("target_type", _target_type, replace=True)
OmegaConf.register_resolver("count_interactions", _count_interactions, replace=True)
OmegaConf.register_resolver("interaction_rows", _interaction_rows, replace=True)
OmegaConf.register_resolver("table_shape", _table_shape, replace=True)
OmegaConf.register_resolver("image_shape", _image_shape, replace=True)  # for models of images alone
# A fused optimizer takes 16-mixed's loss scaling off by itself, after the moment at which gradients are clipped.
OmegaConf.register_resolver("fused", lambda precision: precision != "16-mixed", replace=True)
# The task declares its metrics. Without a task, a run of a plain LightningModule watches what it logs.
OmegaConf.register_resolver("headline", lambda *, _root_: headline(task_metrics(_root_)), replace=True)


def _metric_mode(monitor: Any, *, _root_: Any) -> str:
    return mode_of(str(monitor), task_metrics(_root_))


OmegaConf.register_resolver("metric_mode", _metric_mode, replace=True)
