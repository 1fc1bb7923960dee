"""A template in small, with the scripts of this one, and git without the user's settings."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import fork

ROOT = Path(__file__).resolve().parents[2]

FILES = {
    "pyproject.toml": """[project]
name = "old-nest"
version = "0.3.0"
description = "Old Nest: a template"
authors = [{ name = "The Old Nest authors" }]

[project.optional-dependencies]
# template only: begin
benchmark = ["keras"]
# template only: end

[project.entry-points."train_smarter.project"]
project = "nest"

[tool.hatch.build.targets.wheel]
only-include = ["src/train_smarter", "src/nest", "conf"]

[tool.hatch.build.targets.wheel.sources]
"conf" = "nest/conf"

[tool.ruff]
src = ["src", "lab"]

[tool.ruff.lint.per-file-ignores]
"lab/*" = ["T20"]  # template only

[tool.mypy]
mypy_path = "src:lab"
""",
    "requirements.lock": "scikit-learn==1.9.1 \\\n    --hash=sha256:00\n    # via old-nest (pyproject.toml)\n",
    "README.md": "# Old Nest\n\nAccuracy 0.9582.\n",
    "CHANGELOG.md": "# Changelog of Old Nest\n",
    "LICENSE": "MIT License\n\nCopyright (c) 2020 The Old Nest authors\n\nPermission is hereby granted\n",
    ".gitignore": "/data/\n",
    "Makefile": "test:\n\tpytest\n",
    "docs/security.md": """# Security
<!-- template only: begin -->
Measured by us.
<!-- template only: end -->
The end.
""",
    "docs/guide.md": """# Guide
```bash
train model=cnn data=digits
train model=lstm data=phrases
```

```bash
train data=phrases seed=2
```

The end of nest.data.
""",
    "docs/benchmarks.md": "# Benchmarks\n",
    "lab/benchmark.py": "print(1)\n",
    "src/train_smarter/__init__.py": '"""The engine of nest.data."""\n',
    "src/train_smarter/steps.py": "import notinstalledhere\n\nFIRST = 1\n\nSECOND = 2\n\nTHIRD = 3\n",
    "src/nest/__init__.py": "",
    "src/nest/data/__init__.py": "",
    "src/nest/data/digits.py": "class Digits: ...\n",
    "src/nest/data/phrases.py": "class Phrases: ...\n",
    "src/nest/model/__init__.py": "",
    "src/nest/model/cnn.py": 'class CNN: ...\n\n\nHINT = "the nest of a bird, not nest.model.cnn"\n',
    "src/nest/model/mlp.py": "class MLP: ...\n",
    "src/nest/model/lstm.py": "class LSTM: ...\n",
    "src/nest/model/bag_lstm.py": "from nest.model.lstm import LSTM\nfrom train_smarter import steps\n\nnest = steps\n",
    "conf/train.yaml": """defaults:
  - _self_
  - data: digits
  - model: cnn
  - experiment: none

seed: 1
""",
    "conf/data/_base.yaml": "num_classes: ???\n",
    "conf/data/digits.yaml": "defaults: [_base, _self_]\n_target_: nest.data.digits.Digits\nshape: [1, 8, 8]\n",
    "conf/data/phrases.yaml": "defaults: [_base, _self_]\n_target_: nest.data.phrases.Phrases\nvocab_size: 9\n",
    "conf/data/images.yaml": "_target_: train_smarter.images.Images\nshape: [3, 8, 8]\n",
    "conf/model/_base.yaml": "classes: ${data.num_classes}\n",
    "conf/model/cnn.yaml": "defaults: [_base]\n_target_: nest.model.cnn.CNN\nshape: ${data.shape}\n",
    "conf/model/mlp.yaml": "defaults: [_base]\n_target_: nest.model.mlp.MLP\nshape: ${data.shape}\n",
    "conf/model/lstm.yaml": "defaults: [_base]\n_target_: nest.model.lstm.LSTM\nvocab: ${data.vocab_size}\n",
    "conf/model/bag_lstm.yaml": "defaults: [lstm]\n_target_: nest.model.bag_lstm.BagLSTM\n",
    "conf/experiment/none.yaml": "{}\n",
    "conf/experiment/digits_mlp.yaml": """# @package _global_
# The MLP. Test accuracy 0.9582; over
# five seeds 0.9600. No download.
#   train experiment=digits_mlp
defaults:
  - override /data: digits
  # the smallest
  - override /model: mlp
""",
    "conf/experiment/phrases_lstm.yaml": "defaults: [override /data: phrases, override /model: lstm]\nlr: 1\n",
    "conf/search/default.yaml": """# train -m search=default experiment=phrases_lstm
# train -m search=default model=cnn
n: 1
""",
    "conf/search/phrases_lstm.yaml": "defaults:\n  - default\n  - override /experiment: phrases_lstm\n",
    "tests/conftest.py": 'LATER = "data=phrases"\n',
    "tests/test_contract.py": "def test_all() -> None: ...\n",
    "tests/test_readme.py": "def test_readme() -> None: ...\n",
    "tests/lab/test_benchmark.py": "",
    "tests/train_smarter/test_steps.py": "",
    "tests/nest/data/test_digits.py": 'from nest.data.digits import Digits\n\nUSED = (Digits, "model=cnn,mlp")\n',
    "tests/nest/data/test_phrases.py": "from nest.data import phrases\nfrom nest.model import lstm\n",
    "tests/nest/model/test_cnn.py": 'WITH = ["data=phrases"]\n',
    "tests/nest/model/test_lstm.py": "",
}


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def write_and_commit(folder: Path, files: Mapping[str, str | None]) -> str:
    """Write the files (None deletes one), commit them, and return the commit."""
    for path, text in files.items():
        if text is None:
            (folder / path).unlink()
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(text.encode())
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=one")
    return git(folder, "rev-parse", "HEAD").strip()


@pytest.fixture
def commit() -> Callable[[Path, Mapping[str, str | None]], str]:
    return write_and_commit


def without_the_users_settings(context: pytest.MonkeyPatch, folder: Path) -> None:
    for key in [key for key in os.environ if key.startswith("GIT_")]:
        context.delenv(key)
    context.setenv("GIT_CONFIG_GLOBAL", str(folder / "gitconfig"))
    context.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture(autouse=True)
def git_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_the_users_settings(monkeypatch, tmp_path)


@pytest.fixture(scope="session")
def first_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed template with the real scripts, and a file that git ignores. Made once: read it only."""
    root = tmp_path_factory.mktemp("template") / "old"
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "run").write_bytes(b"#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "tests").mkdir()
    (root / "tests" / "nest.bin").write_bytes(b"\x89PNG\0src/nest")
    with pytest.MonkeyPatch.context() as context:
        without_the_users_settings(context, root.parent)
        git(root, "init", "--quiet", "--template=", "--initial-branch=main")
        git(root, "config", "core.autocrlf", "false")
        git(root, "add", "run")
        git(root, "update-index", "--chmod=+x", "run")  # Windows has no such bit on disk
        write_and_commit(root, FILES)
    (root / "data").mkdir()
    (root / "data" / "large").touch()
    return root


@pytest.fixture
def template(first_template: Path, tmp_path: Path) -> Path:
    """A copy of it, to edit."""
    shutil.copytree(first_template, tmp_path / "old")
    return tmp_path / "old"


@pytest.fixture(scope="session")
def house(first_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its default fork. Made once: read it only."""
    target = tmp_path_factory.mktemp("house") / "new"
    with pytest.MonkeyPatch.context() as context:
        without_the_users_settings(context, target.parent)
        assert fork.main([str(target), "--name", "my_house"], root=first_template) == 0
    return target
