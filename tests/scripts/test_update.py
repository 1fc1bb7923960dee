import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import fork
import update

Commit = Callable[..., str]
STEPS = "src/train_smarter/steps.py"


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def record(folder: Path) -> dict[str, object]:
    return tomllib.loads((folder / ".template.toml").read_text())


def edit(file: Path, old: str, new: str) -> str:
    text = file.read_text()
    assert old in text
    return text.replace(old, new)


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A fork of the template."""
    assert fork.main([str(tmp_path / "new"), "--name", "my_house"], root=template) == 0
    git(tmp_path / "new", "config", "user.name", "Ada")
    git(tmp_path / "new", "config", "user.email", "ada@example.org")
    return tmp_path / "new"


@pytest.fixture
def newer(template: Path, project: Path, commit: Commit) -> str:
    """The template's next commit, after the fork: the engine and an example have changed."""
    assert project.exists()
    mlp = edit(template / "src/nest/model/mlp.py", "...", "pass")
    return commit(template, {STEPS: edit(template / STEPS, "FIRST = 1", "FIRST = 10"), "src/nest/model/mlp.py": mlp})


def refusal(capsys: pytest.CaptureFixture[str], project: Path, *words: str) -> str:
    """The one line on stderr with which an update is refused; nothing has changed."""
    before = git(project, "rev-parse", "HEAD"), git(project, "status", "--porcelain")
    capsys.readouterr()
    assert update.main(list(words), root=project) == 2
    assert (git(project, "rev-parse", "HEAD"), git(project, "status", "--porcelain")) == before
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


@pytest.mark.usefixtures("newer")
def test_an_update_brings_the_newer_engine_and_leaves_what_is_yours(
    project: Path, commit: Commit, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = {
        "src/my_house/model/mine.py": "class Mine: ...\n",
        "README.md": edit(project / "README.md", "## Start", "Hi"),
    }
    commit(project, {**mine, STEPS: edit(project / STEPS, "THIRD = 3", "THIRD = 30")})
    capsys.readouterr()
    assert update.main([], root=project) == 0
    assert {path: (project / path).read_text() for path in mine} == mine
    assert "FIRST = 10" in (project / STEPS).read_text()
    assert "THIRD = 30" in (project / STEPS).read_text()
    assert (project / "src/my_house/model/mlp.py").read_text() == "class MLP: pass\n"
    printed = capsys.readouterr().out
    assert "git diff template -- src/train_smarter" in printed
    assert [
        line[0] + line[1:] for line in git(project, "diff", "template", "--", STEPS).splitlines() if "30" in line
    ] == ["+THIRD = 30"]


@pytest.mark.usefixtures("newer")
def test_the_printed_command_undoes_the_update_and_it_can_be_done_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = git(project, "rev-parse", "HEAD")
    capsys.readouterr()
    for _ in range(2):
        assert update.main([], root=project) == 0
        printed = capsys.readouterr().out
        assert "made again" not in printed
        undo = printed.splitlines()[-1].removeprefix("Undo the update:  ")
        assert git(project, "rev-parse", "HEAD") != before
        git(project, *undo.split()[1:])
        assert git(project, "rev-parse", "HEAD") == before
        assert git(project, "status", "--porcelain") == ""


def test_updates_follow_each_other_and_record_what_they_merged(
    project: Path, template: Path, newer: str, commit: Commit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert update.main([], root=project) == 0
    assert record(project)["commit"] == newer
    newest = commit(template, {STEPS: edit(template / STEPS, "SECOND = 2", "SECOND = 20")})
    assert update.main([], root=project) == 0
    assert record(project)["commit"] == newest
    assert len(git(project, "log", "--format=%h", "template").split()) == 3
    capsys.readouterr()
    assert update.main([], root=project) == 0
    assert capsys.readouterr().out.startswith(f"Already at the template's version {newest[:10]}")


@pytest.mark.usefixtures("newer")
def test_a_deleted_example_stays_deleted_although_the_template_changed_it(
    project: Path, commit: Commit, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(
        project, dict.fromkeys(("src/my_house/model/mlp.py", "conf/model/mlp.yaml", "conf/experiment/digits_mlp.yaml"))
    )
    assert update.main([], root=project) == 0
    assert not (project / "src/my_house/model/mlp.py").exists()
    assert "FIRST = 10" in (project / STEPS).read_text()
    assert "Still deleted here, although the template changed it: src/my_house/model/mlp.py" in capsys.readouterr().out
    assert git(project, "status", "--porcelain") == ""


def test_an_example_that_the_template_drops_goes_and_does_not_stop_the_update(
    project: Path, template: Path, commit: Commit
) -> None:
    dropped = ("src/nest/model/mlp.py", "conf/model/mlp.yaml", "conf/experiment/digits_mlp.yaml")
    commit(template, dict.fromkeys((*dropped, "tests/nest/data/test_digits.py")))
    assert update.main([], root=project) == 0
    assert not (project / "src/my_house/model/mlp.py").exists()
    assert record(project)["arguments"] == ["--name", "my_house", "--keep", "digits,cnn,mlp"]


@pytest.mark.usefixtures("newer")
def test_a_conflict_names_the_files_and_what_to_type(
    project: Path, commit: Commit, capsys: pytest.CaptureFixture[str]
) -> None:
    before = commit(project, {STEPS: edit(project / STEPS, "FIRST = 1", "FIRST = 11")})
    assert update.main([], root=project) == 1
    message = capsys.readouterr().err
    assert f"  {STEPS}\n" in message
    assert f"git add {STEPS}\n  git commit --no-edit" in message
    assert "a merge is not finished" in refusal(capsys, project)
    undo = message.splitlines()[-1].removeprefix("Undo the update:  ")
    git(project, *undo.split()[1:])
    assert git(project, "rev-parse", "HEAD").strip() == before
    assert git(project, "status", "--porcelain") == ""


def squash(project: Path) -> None:
    """One commit without a past, as after "Use this template"; no branch but main."""
    git(project, "checkout", "--quiet", "--orphan", "fresh")
    git(project, "commit", "--quiet", "--message=squashed")
    git(project, "branch", "--quiet", "--delete", "--force", "main", "template")
    git(project, "branch", "--quiet", "--move", "main")
    git(project, "reflog", "expire", "--expire=now", "--all")


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize("moved", [False, True])
def test_without_the_branch_the_base_is_made_again(
    project: Path, template: Path, tmp_path: Path, commit: Commit, capsys: pytest.CaptureFixture[str], moved: bool
) -> None:
    commit(project, {STEPS: edit(project / STEPS, "THIRD = 3", "THIRD = 30"), "src/my_house/model/cnn.py": None})
    squash(project)
    if moved:
        template.rename(tmp_path / "elsewhere")
    assert update.main([str(tmp_path / "elsewhere")] if moved else [], root=project) == 0
    assert (project / STEPS).read_text().endswith("FIRST = 10\n\nSECOND = 2\n\nTHIRD = 30\n")
    assert not (project / "src/my_house/model/cnn.py").exists()
    assert "made again" in capsys.readouterr().out
    assert record(project)["origin"] == str(tmp_path / ("elsewhere" if moved else "old"))
    assert git(project, "status", "--porcelain") == ""


def test_a_colleagues_clone_takes_the_branch_of_the_remote(
    project: Path, tmp_path: Path, newer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    git(tmp_path, "clone", "--quiet", str(project), "clone")
    assert update.main([], root=tmp_path / "clone") == 0
    assert "made again" not in capsys.readouterr().out
    assert record(tmp_path / "clone")["commit"] == newer


def test_a_branch_of_another_version_is_not_the_base(
    project: Path, template: Path, newer: str, commit: Commit, capsys: pytest.CaptureFixture[str]
) -> None:
    old = git(project, "rev-parse", "template").strip()
    assert update.main([], root=project) == 0
    git(project, "update-ref", "refs/heads/template", old)  # a colleague pushed main, and not template
    commit(template, {STEPS: edit(template / STEPS, "FIRST = 10", "FIRST = 100")})
    capsys.readouterr()
    assert update.main([], root=project) == 0
    assert f"at {newer[:10]}: it is made again" in capsys.readouterr().out
    assert "FIRST = 100" in (project / STEPS).read_text()


def test_a_version_may_be_a_tag(project: Path, template: Path, newer: str, commit: Commit) -> None:
    git(template, "tag", "v1")
    commit(template, {STEPS: edit(template / STEPS, "SECOND = 2", "SECOND = 20")})
    assert update.main(["--version", "v1"], root=project) == 0
    assert record(project)["commit"] == newer
    assert record(project)["origin"] == str(template)


@pytest.mark.usefixtures("newer")
def test_an_untracked_file_in_the_way_is_reported_and_stays(
    project: Path, template: Path, commit: Commit, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(template, {"src/train_smarter/more.py": "MORE = 1\n"})
    (project / "src/train_smarter/more.py").write_text("mine\n")
    assert "nothing was merged" in refusal(capsys, project)
    assert (project / "src/train_smarter/more.py").read_text() == "mine\n"


def test_uncommitted_changes_are_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "README.md").write_text("mine")
    assert "uncommitted changes (README.md): git commit --all, or git stash" in refusal(capsys, project)
    assert (project / "README.md").read_text() == "mine"


@pytest.mark.parametrize("branch", ["template", "--detach"])
def test_an_update_needs_a_branch_of_yours(project: Path, capsys: pytest.CaptureFixture[str], branch: str) -> None:
    git(project, "checkout", "--quiet", branch)
    assert "git switch to the branch that you work on" in refusal(capsys, project)


def test_a_project_without_a_record_is_refused(
    project: Path, commit: Commit, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(project, {".template.toml": None})
    assert ".template.toml is not in this project" in refusal(capsys, project)
    commit(project, {".template.toml": "origin = 1\n"})
    assert ".template.toml cannot be read" in refusal(capsys, project)


@pytest.mark.parametrize("source", ["nowhere", "http://localhost:1/x.git", "", "-x", "."])
def test_an_address_that_is_not_a_template_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(project)
    assert "URL_OR_FOLDER" in refusal(capsys, project, "--", source)


def test_a_template_without_the_recorded_commit_is_refused(
    project: Path, template: Path, commit: Commit, capsys: pytest.CaptureFixture[str]
) -> None:
    squash(project)
    commit(project, {".template.toml": edit(project / ".template.toml", str(record(project)["commit"]), "0" * 40)})
    assert f"commit {'0' * 40} is not in {template}" in refusal(capsys, project)


def test_outside_of_a_repository_it_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert update.main([], root=tmp_path) == 2
    assert "is not a git repository" in capsys.readouterr().err
