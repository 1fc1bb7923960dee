"""Registers the resolvers that conf/ uses: to be imported by whatever resolves a config. Imports nothing heavy."""

from typing import Any

from omegaconf import ListConfig, OmegaConf

from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.metric_names import headline, mode_of, task_metrics


def _count_classes(folder: str) -> int:
    from train_smarter.data.class_folders import class_names

    return len(class_names(folder))


def _image_shape(shape: Any) -> Any:
    if not isinstance(shape, list | ListConfig) or len(shape) != 3:
        raise UserError(f"data.shape={shape}: this model needs images, data.shape=[C, H, W]")
    return shape


OmegaConf.register_resolver("project_root", lambda: str(paths.ROOT), replace=True)
OmegaConf.register_resolver("count_classes", _count_classes, replace=True)
OmegaConf.register_resolver("image_shape", _image_shape, replace=True)  # for models of images alone
# A fused optimizer takes 16-mixed's loss scaling off by itself, after the moment at which gradients are clipped.
OmegaConf.register_resolver("fused", lambda precision: precision != "16-mixed", replace=True)
# The task declares its metrics. Without a task, a run of a plain LightningModule watches what it logs.
OmegaConf.register_resolver("headline", lambda *, _root_: headline(task_metrics(_root_)), replace=True)


def _metric_mode(monitor: Any, *, _root_: Any) -> str:
    return mode_of(str(monitor), task_metrics(_root_))


OmegaConf.register_resolver("metric_mode", _metric_mode, replace=True)
