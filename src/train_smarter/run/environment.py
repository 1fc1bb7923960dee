"""The variables of a project's `.env`; versions, hardware and git commit that a run was started with."""

import functools
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from train_smarter import paths
from train_smarter.errors import UserError

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf", "optuna", "numpy")


def load_env_file() -> None:
    """Set the variables of `.env` in the project's root that are not set yet.

    No other `.env` is read: a run folder, in which a command may be typed, can be a stranger's.

    Raises:
        UserError: it cannot be read.
    """
    file = paths.ENV_FILE
    if file is None or not file.is_file():  # a virtual environment may have that name
        return
    from dotenv import load_dotenv  # here: it takes as long as all of Hydra

    try:
        load_dotenv(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}; it has a NAME=value a line, in UTF-8") from error


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
