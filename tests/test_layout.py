"""Every file of the project is where the placing rules of CONTRIBUTING.md put it. A new file needs no edit here."""

import ast
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from train_smarter import paths

ROOT, CONF = paths.ROOT, paths.CONF
PROJECT = ROOT / "src" / paths.PROJECT


def lines(wrong: Iterable[str]) -> str:
    return "\n".join(["", *sorted(wrong)])


def modules(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*.py") if file.name[0] != "_"]


def targets(choice: Path) -> list[str]:
    """The `_target_` at the top of a choice, or under the choice's name (callbacks, loggers)."""
    content = OmegaConf.to_container(OmegaConf.load(choice), resolve=False)
    nodes = [content, *content.values()] if isinstance(content, dict) else []
    return [str(node["_target_"]) for node in nodes if isinstance(node, dict) and "_target_" in node]


def test_a_choice_with_code_of_this_project_has_the_path_of_its_code() -> None:
    wrong = []
    for choice in CONF.rglob("[!_]*.yaml"):
        module = ".".join([paths.PROJECT, *choice.relative_to(CONF).with_suffix("").parts])
        own = [target for target in targets(choice) if target.startswith(f"{paths.PROJECT}.")]
        wrong += [f"{choice}: {target} is not in {module}" for target in own if target.rpartition(".")[0] != module]
    assert not wrong, lines(wrong)


def test_every_module_of_this_project_has_its_choice() -> None:
    choices = {module: CONF / module.relative_to(PROJECT).with_suffix(".yaml") for module in modules(PROJECT)}
    assert PROJECT.is_dir(), "the check would pass on nothing"  # an empty project is none
    wrong = [f"{module} has no {choice}" for module, choice in choices.items() if not choice.is_file()]
    assert not wrong, lines(wrong)


def test_this_project_imports_the_engine_through_its_public_door() -> None:
    wrong = []
    for module in PROJECT.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_bytes())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            inner = [name for name in names if name.startswith(f"{paths.NAME}.")]
            wrong += [f"{module}:{node.lineno} imports {name}: from {paths.NAME} import ..." for name in inner]  # type: ignore[attr-defined]
    assert not wrong, lines(wrong)


# ---- git


def git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, encoding="utf8", check=False)


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    try:
        listed = git("ls-files", "-z")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]


@pytest.mark.usefixtures("tracked")
@pytest.mark.parametrize("path", ["data/x", "logs/x", ".venv/x", "conf/local/x.yaml", "src/x/__pycache__/x.pyc"])
def test_git_ignores_what_a_machine_makes(path: str) -> None:
    assert git("check-ignore", "--no-index", path).returncode == 0


@pytest.mark.usefixtures("tracked")
@pytest.mark.parametrize(
    "path",
    [
        *(f"src/{package}/data/x.py" for package in (paths.PROJECT, paths.NAME)),
        "conf/data/x.yaml",
        "tests/data/x.py",
        "logs/.gitkeep",
        "conf/local/.gitkeep",
    ],
)
def test_git_does_not_ignore_what_we_write(path: str) -> None:
    assert git("check-ignore", "--no-index", path).returncode == 1


def test_no_file_is_over_a_megabyte(tracked: list[Path]) -> None:
    large = [str(file) for file in tracked if file.stat().st_size > 1_000_000]
    assert not large, lines(large)
