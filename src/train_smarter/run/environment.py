"""Versions, hardware and git commit that a run was started with."""

import functools
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from train_smarter import paths

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf", "optuna", "numpy")


def commit() -> dict[str, Any]:
    """The project's git commit and the changes not committed, or nulls outside a checkout."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=paths.ROOT, capture_output=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.decode("utf8", errors="replace")  # a changed file may be in any encoding

    head = git("rev-parse", "HEAD")
    return {"commit": head and head.strip(), "diff": git("diff", "HEAD")}


@functools.cache
def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"system": platform.platform(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpus": gpus}
