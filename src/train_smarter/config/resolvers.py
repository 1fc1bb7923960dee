"""Registers the resolvers that conf/ uses: to be imported by whatever resolves a config. Imports nothing heavy."""

from omegaconf import OmegaConf

from train_smarter import paths


def _count_classes(folder: str) -> int:
    from train_smarter.data.class_folders import class_names

    return len(class_names(folder))


OmegaConf.register_resolver("project_root", lambda: str(paths.ROOT), replace=True)
OmegaConf.register_resolver("count_classes", _count_classes, replace=True)
# A fused optimizer takes 16-mixed's loss scaling off by itself, after the moment at which gradients are clipped.
OmegaConf.register_resolver("fused", lambda precision: precision != "16-mixed", replace=True)
