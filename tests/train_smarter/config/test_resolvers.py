import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import train_smarter.config.resolvers  # noqa: F401
from train_smarter import paths
from train_smarter.history.saved_config import use_recorded_counts


def test_a_config_knows_the_project_and_counts_the_classes_of_a_folder(tmp_path: Path) -> None:
    for name in ("cat", "dog", "owl"):
        (tmp_path / name).mkdir()
    assert OmegaConf.create({"x": "${project_root:}/conf"}).x == f"{paths.ROOT}/conf"
    assert OmegaConf.create({"dir": str(tmp_path), "x": "${count_classes:${dir}}"}).x == 3


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_of_an_older_version_has_its_recorded_classes_or_counts_them(tmp_path: Path, recorded: bool) -> None:
    for name in ("cat", "dog", "owl"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    data = {"dir": str(tmp_path / "photos"), "num_classes": "${count_classes:${.dir}}"}
    if recorded:
        OmegaConf.save({"data": data | {"num_classes": 2}}, tmp_path / "config.yaml")
    cfg = OmegaConf.create({"data": data})
    use_recorded_counts(cfg, tmp_path)
    assert cfg.data.num_classes == (2 if recorded else 3)


def test_an_optimizer_is_fused_unless_losses_are_scaled() -> None:
    assert OmegaConf.create({"x": "${fused:32-true}"}).x
    assert not OmegaConf.create({"x": "${fused:16-mixed}"}).x


def test_whoever_looks_for_a_past_run_can_resolve_its_config() -> None:
    """In a process of its own: here, other tests have registered them."""
    program = (
        "import train_smarter.history.saved_config; from omegaconf import OmegaConf; "
        "print(OmegaConf.create({'x': '${fused:a}'}).x)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize(
    ("overrides", "monitor", "mode"),
    [
        ([], "val/accuracy", "max"),
        (["monitor=val/loss"], "val/loss", "min"),
        (["task=regression", "+data.num_targets=1"], "val/rmse", "min"),
        (["task=regression", "+data.num_targets=1", "task.metrics.rmse=null"], "val/mae", "min"),
        (["task=regression", "+data.num_targets=1", "monitor=train/r2"], "train/r2", "max"),
        (["task=none", "monitor=my_score", "mode=max"], "my_score", "max"),
    ],
)
def test_monitor_and_mode_follow_the_metrics_that_the_task_declares(
    compose: Callable[..., Any], overrides: list[str], monitor: str, mode: str
) -> None:
    cfg = compose(*overrides)
    assert (cfg.monitor, cfg.mode) == (monitor, mode)
