"""What is installed is whole, holds nothing private, and works in another folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from train_smarter import paths
from train_smarter.run.files import read_json

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files of this checkout, and a private config."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=paths.ROOT, capture_output=True, text=True, check=False)
    for name in filter(None, listed.stdout.split("\0")):
        if (paths.ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((paths.ROOT / name).read_bytes())
    (folder / "conf" / "local" / "default.yaml").write_text("seed: 7")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_a_wheel_holds_both_packages_and_every_config_but_the_private_one(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in paths.OWN:
        source = paths.ROOT / "src"
        files = [file for file in (source / package).rglob("*") if file.is_file() and file.suffix != ".pyc"]
        assert {file.relative_to(source).as_posix() for file in files} <= names
    configs = {f"{paths.PROJECT}/conf/{file.relative_to(paths.CONF).as_posix()}" for file in paths.CONF.rglob("*.yaml")}
    assert {name for name in names if name.endswith(".yaml")} == {name for name in configs if "/local/" not in name}


def test_an_installed_project_trains_in_any_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-m", f"{paths.COMMANDS}.train", "debug=limit", "data.batch_size=8"],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (run,) = (work / "logs" / "train" / "runs").iterdir()
    assert read_json(run / "results.json")["epochs"] == 2
