import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

spec = importlib.util.spec_from_file_location("fork", ROOT / "scripts" / "fork.py")
assert spec is not None
assert spec.loader is not None
fork = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fork)

# A project in small, under a name that no fork of this one gets by accident.
FILES = {
    "pyproject.toml": '[project]\nname = "old-nest"\nversion = "0.3.0"\ndescription = "Old Nest: eggs"\n',
    "requirements.lock": "scikit-learn==1.9.1 \\\n    --hash=sha256:00\n    # via old-nest (pyproject.toml)\n",
    "src/old_nest/__init__.py": '"""Old Nest."""\n',
    "src/old_nest/egg.py": "import notinstalledhere\n\nfrom old_nest.shell import crack\n\nold_nesting = 1\n",
    "conf/model/egg.yaml": "_target_: old_nest.egg.Egg\n",
    "conf/help/old_nest.yaml": "app_name: ${oc.env:OLD_NEST_HOME}\n",
    "docs/größe.md": "# Old Nest\n\n`python -m old_nest.egg`, class OldNestError, class OldNest\n",
    "LICENSE": "MIT License\n\nCopyright (c) 2020 The Old Nest authors\n\nPermission is hereby granted\n",
    "CHANGELOG.md": "# Changelog\n\nOf Old Nest.\n\n## [Unreleased]\n\n### Added\n\n- Eggs.\n",
    ".gitignore": "/data/\n",
}


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def without_the_users_git_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith("GIT_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A committed project, with a file that git does not track, one that it ignores, and one that it tracks anyway."""
    root = tmp_path / "nest"
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf8")
    (root / "docs" / "old_nest.png").write_bytes(b"\x89PNG\0old_nest")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "data").mkdir()
    (root / "data" / "big").touch()
    (root / "data" / "kept").touch()
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "add", "--force", "data/kept")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=one")
    (root / "untracked.txt").touch()
    return root


def refusal(capsys: pytest.CaptureFixture[str], project: Path, target: Path, *, name: str = "new_house") -> str:
    """The one line on stderr with which a fork is refused."""
    assert fork.main([str(target), "--name", name], root=project) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_every_spelling_of_the_name_is_replaced_in_paths_and_texts(project: Path, tmp_path: Path) -> None:
    assert fork.main([str(tmp_path / "new"), "--name", "new_house"], root=project) == 0

    def text(path: str) -> str:
        return (tmp_path / "new" / path).read_text(encoding="utf8")

    assert 'name = "new-house"' in text("pyproject.toml")
    assert '"New House: eggs"' in text("pyproject.toml")
    assert "via new-house" in text("requirements.lock")
    assert "from new_house.shell import crack" in text("src/new_house/egg.py")
    assert text("conf/model/egg.yaml") == "_target_: new_house.egg.Egg\n"
    assert text("conf/help/new_house.yaml") == "app_name: ${oc.env:NEW_HOUSE_HOME}\n"
    assert text("docs/größe.md") == "# New House\n\n`python -m new_house.egg`, class OldNestError, class NewHouse\n"


def test_a_longer_word_that_holds_the_name_stays(project: Path, tmp_path: Path) -> None:
    assert fork.main([str(tmp_path / "new"), "--name", "new_house"], root=project) == 0
    assert "old_nesting = 1" in (tmp_path / "new" / "src" / "new_house" / "egg.py").read_text()


def test_binary_files_and_modes_stay_as_they_are(project: Path, tmp_path: Path) -> None:
    fork.main([str(tmp_path / "new"), "--name", "new_house"], root=project)
    assert (tmp_path / "new" / "docs" / "new_house.png").read_bytes() == b"\x89PNG\0old_nest"
    assert os.access(tmp_path / "new" / "run", os.X_OK)


def test_the_copy_is_one_commit_of_the_tracked_files_without_any_configured_user(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fork.main([str(tmp_path / "new"), "--name", "new_house"], root=project)
    new = tmp_path / "new"
    assert git(new, "status", "--porcelain") == ""
    assert git(new, "log", "--format=%an").splitlines() == ["fork.py"]
    assert len(git(new, "ls-files").splitlines()) == len(FILES) + 3  # the picture, the script and data/kept
    assert "Start from Old Nest 0.3.0 (commit " in git(new, "log", "--format=%s")
    printed = capsys.readouterr().out
    assert "git does not track it: untracked.txt" in printed
    assert "make test" in printed


def test_the_configured_user_makes_the_commit(project: Path, tmp_path: Path) -> None:
    git(project, "config", "--global", "user.name", "Ada")
    git(project, "config", "--global", "user.email", "ada@example.org")
    fork.main([str(tmp_path / "new"), "--name", "new_house"], root=project)
    assert git(tmp_path / "new", "log", "--format=%an %ae").split() == ["Ada", "ada@example.org"]


def test_the_licence_keeps_its_notice_and_gets_a_second_one(project: Path, tmp_path: Path) -> None:
    fork.main([str(tmp_path / "new"), "--name", "new_house"], root=project)
    notices = [line for line in (tmp_path / "new" / "LICENSE").read_text().splitlines() if line.startswith("Copyright")]
    assert notices[0] == "Copyright (c) 2020 The Old Nest authors"
    assert [notice.split(" ", 3)[3] for notice in notices] == ["The Old Nest authors", "The New House authors"]


def test_the_changelog_begins_anew_and_says_where_it_comes_from(project: Path, tmp_path: Path) -> None:
    fork.main([str(tmp_path / "new"), "--name", "new_house"], root=project)
    text = (tmp_path / "new" / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n\nOf New House.\n\n## [Unreleased]\n")
    assert "Eggs" not in text
    assert "- The project, from Old Nest 0.3.0 (commit " in text


def test_a_fork_can_be_forked(project: Path, tmp_path: Path) -> None:
    fork.main([str(tmp_path / "new"), "--name", "house"], root=project)
    assert fork.main([str(tmp_path / "newer"), "--name", "tall_tower"], root=tmp_path / "new") == 0
    text = (tmp_path / "newer" / "pyproject.toml").read_text()
    assert 'name = "tall_tower"' in text
    assert '"Tall Tower: eggs"' in text


def test_the_folders_name_is_the_default(project: Path, tmp_path: Path) -> None:
    assert fork.main([str(tmp_path / "new_house")], root=project) == 0
    assert (tmp_path / "new_house" / "src" / "new_house").is_dir()


def test_the_standard_library_is_enough(project: Path) -> None:
    shutil.copytree(ROOT / "scripts", project / "scripts")
    command = [sys.executable, "-I", "-S", "scripts/fork.py", "../new", "--name", "new_house"]  # no site-packages
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3] == "  cd ../new"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("my-house", "is no package name"),
        ("2houses", "is no package name"),
        ("House", "is no package name"),
        ("größe", "is no package name"),
        ("_house", "is no package name"),
        ("my__house", "is no package name"),
        ("../house", "is no package name"),
        ("class", "is a word of Python's own"),
        ("match", "is a word of Python's own"),
        ("old_nest", "is this project's own name"),
        ("egg", "has a meaning in this project already"),
        ("model", "has a meaning in this project already"),
        ("docs", "has a meaning in this project already"),
        ("test", "would hide the module"),
        ("json", "would hide the module"),
        ("torch", "would hide the module"),
        ("winreg", "would hide the module"),  # on Windows alone
        ("scikit_learn", "would hide the module"),
        ("notinstalledhere", "would hide the module"),
    ],
)
def test_a_name_that_would_break_the_fork_is_refused_in_one_line(
    name: str, reason: str, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, project, tmp_path / "new", name=name)
    assert message.startswith("fork.py: --name ")
    assert reason in message
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nest", "lies inside this project"),
        ("nest/fork", "lies inside this project"),
        ("nest/../nest/fork", "lies inside this project"),
        ("full", "exists and is not an empty folder"),
        ("full/file", "exists and is not an empty folder"),
        ("full/file/below", "cannot copy to"),
        (".", "exists and is not an empty folder"),
    ],
)
def test_a_target_that_is_taken_is_refused_in_one_line(
    target: str, reason: str, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert reason in refusal(capsys, project, tmp_path / target)
    assert (tmp_path / "full" / "file").read_text() == "mine"


def test_a_relative_target_is_seen_from_the_working_directory(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "docs")
    assert "lies inside this project" in refusal(capsys, project, Path("new"))


def test_an_empty_folder_is_a_target(project: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert fork.main([str(tmp_path / "new"), "--name", "new_house"], root=project) == 0


def test_without_git_it_is_refused_in_one_line(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git is not installed" in refusal(capsys, project, tmp_path / "new")


def test_outside_a_checkout_it_is_refused_in_one_line(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / ".git").rename(project / "no_git")
    assert "is no git checkout" in refusal(capsys, project, tmp_path / "new")


def test_a_commit_that_fails_leaves_nothing_behind(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "pre-commit").write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    (tmp_path / "hooks" / "pre-commit").chmod(0o755)
    git(project, "config", "--global", "core.hooksPath", str(tmp_path / "hooks"))
    assert refusal(capsys, project, tmp_path / "new") == "fork.py: git: not today\n"
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_fork_of_this_project_passes_its_own_tests(tmp_path: Path) -> None:
    own = fork.package(ROOT)
    name = next(name for name in ("my_project", "my_second_project") if name != own)
    assert fork.main([str(tmp_path / name), "--name", name]) == 0

    allowed = {"LICENSE", "CHANGELOG.md"}  # they say where the project comes from
    spellings = [spelling.lower().encode() for spelling in fork.spelt(own)]
    texts = {
        path: (tmp_path / name / path).read_bytes().lower() for path in git(tmp_path / name, "ls-files").splitlines()
    }
    assert [path for path in texts if own in path.lower()] == []
    assert [path for path, text in texts.items() if path not in allowed and any(s in text for s in spellings)] == []

    # In the same environment, where it lies first on the path instead of being installed; an installation would also
    # say which plugins it has for Hydra.
    said = tmp_path / name / "src" / f"{name}-0.dist-info"
    said.mkdir()
    (said / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
    plugins = ConfigParser()
    plugins.read_dict(tomllib.loads((tmp_path / name / "pyproject.toml").read_text())["project"]["entry-points"])
    with (said / "entry_points.txt").open("w") as file:
        plugins.write(file)
    env = {**os.environ, "PYTHONPATH": str(tmp_path / name / "src")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path / name, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout.splitlines()[-1]
