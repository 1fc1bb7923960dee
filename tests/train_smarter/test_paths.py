import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from train_smarter import paths

TOML = """
[project.entry-points."train_smarter.project"]
project = "other"
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Path]:
    """The root of another project."""
    (tmp_path / "pyproject.toml").write_text(TOML)
    root, before = paths.ROOT, list(sys.path)
    yield tmp_path
    paths.use(root)
    sys.path[:] = before


def test_configs_and_logs_are_in_the_project() -> None:
    assert (paths.CONF / "train.yaml").is_file()
    assert (paths.ROOT / "pyproject.toml").is_file()
    assert paths.LOGS.is_dir()


def test_another_project_is_used_with_its_own_package_configs_and_logs(other: Path) -> None:
    paths.use(other)
    assert (other, other / "conf", other / "logs") == (paths.ROOT, paths.CONF, paths.LOGS)
    assert (paths.PROJECT, paths.OWN) == ("other", ("other", paths.NAME))
    assert (other / "conf", paths.ENGINE, other / "src" / "other") == paths.SOURCES
    assert sys.path[-1] == str(other / "src")


def test_without_a_root_the_project_of_the_checkout_is_used(other: Path) -> None:
    paths.use(other)
    paths.use()
    assert paths.ENGINE.parents[1] == paths.ROOT


def test_a_new_process_uses_the_project_that_the_environment_names(other: Path) -> None:
    program = "from train_smarter import paths; print(paths.ROOT, paths.PROJECT)"
    environment = {**os.environ, "PYTHONPATH": str(paths.ENGINE.parent), paths.VARIABLE: str(other)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(other), "other"]
