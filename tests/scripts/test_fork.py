import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fork
from _git import UserError
from forking.checks import check_name
from forking.content import MEASURED
from forking.template import read

ROOT = Path(__file__).resolve().parents[2]


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def files(folder: Path) -> set[str]:
    return set(git(folder, "ls-files").split())


def refusal(capsys: pytest.CaptureFixture[str], template: Path, *words: str) -> str:
    """The one line on stderr with which a fork is refused."""
    assert fork.main(list(words), root=template) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def forked(template: Path, tmp_path: Path, *words: str) -> Path:
    assert fork.main([str(tmp_path / "new"), "--name", "my_house", *words], root=template) == 0
    return tmp_path / "new"


# ---- names


@pytest.mark.parametrize(
    ("header", "forked"),
    [
        (
            "# MLP.\n# Test RMSE 53.57; 24 s.\n# For comparison: a line has 53.2.\n#   train\n",
            "# MLP.\n# {}\n#   train\n",
        ),
        ("# MLP. Test mAP 0.76; over three\n# seeds 0.77. No download.\n", "# MLP. {} No download.\n"),
        ("# Test accuracy of the best trial 0.98; 14 min.\n", "# {}\n"),
        ("# Test the network on three tasks.\n", "# Test the network on three tasks.\n"),
    ],
)
def test_a_result_of_any_task_is_not_measured_yet_in_a_fork(header: str, forked: str) -> None:
    assert MEASURED.sub("Not measured yet.", header, count=1) == forked.format("Not measured yet.")


def test_the_project_is_renamed_in_imports_targets_paths_and_pyproject(first_template: Path, tmp_path: Path) -> None:
    new = forked(first_template, tmp_path, "--keep", "all")
    assert (new / "conf/model/cnn.yaml").read_text().splitlines()[1] == "_target_: my_house.model.cnn.CNN"
    assert "from my_house.data import phrases" in (new / "tests/my_house/data/test_phrases.py").read_text()
    content = tomllib.loads((new / "pyproject.toml").read_text())
    assert content["project"]["name"] == "my-house"
    assert content["project"]["entry-points"]["train_smarter.project"] == {"project": "my_house"}
    wheel = content["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {
        "only-include": ["src/train_smarter", "src/my_house", "conf"],
        "sources": {"conf": "my_house/conf"},
    }


def test_other_words_of_the_same_spelling_stay(first_template: Path, tmp_path: Path) -> None:
    new = forked(first_template, tmp_path, "--keep", "all")
    assert '"the nest of a bird, not my_house.model.cnn"' in (new / "src/my_house/model/cnn.py").read_text()
    assert (new / "src/my_house/model/bag_lstm.py").read_text().endswith("nest = steps\n")


def test_imports_of_both_packages_are_sorted_for_the_new_name(first_template: Path, tmp_path: Path) -> None:
    assert fork.main([str(tmp_path / "new"), "--name", "zoo", "--keep", "all"], root=first_template) == 0
    lines = (tmp_path / "new/src/zoo/model/bag_lstm.py").read_text().splitlines()
    assert lines[:2] == ["from train_smarter import steps", "from zoo.model.lstm import LSTM"]


def test_the_engine_and_the_lock_are_the_same_to_the_byte(first_template: Path, house: Path) -> None:
    for path in ("src/train_smarter/__init__.py", "src/train_smarter/steps.py", "requirements.lock", "tests/nest.bin"):
        assert (house / path).read_bytes() == (first_template / path).read_bytes()


def test_the_folders_name_is_the_default(first_template: Path, tmp_path: Path) -> None:
    assert fork.main([str(tmp_path / "my_house")], root=first_template) == 0
    assert (tmp_path / "my_house" / "src" / "my_house").is_dir()


# ---- what a fork has


def test_the_default_keeps_the_small_examples_and_nothing_that_names_another(house: Path) -> None:
    assert files(house) == {
        *(
            ".gitignore",
            ".template.toml",
            "LICENSE",
            "Makefile",
            "README.md",
            "pyproject.toml",
            "requirements.lock",
            "run",
        ),
        *(
            "conf/train.yaml",
            "conf/experiment/none.yaml",
            "conf/experiment/digits_mlp.yaml",
            "conf/search/default.yaml",
        ),
        *("conf/data/_base.yaml", "conf/data/digits.yaml", "conf/data/images.yaml"),
        *("conf/model/_base.yaml", "conf/model/cnn.yaml", "conf/model/mlp.yaml"),
        *("docs/guide.md", "docs/security.md", "scripts/_git.py", "scripts/update.py"),
        # scaffold.py and its parts, whatever they are.
        *(path for path in files(house) if path.startswith(("scripts/scaffold", "scripts/examples/"))),
        *("src/train_smarter/__init__.py", "src/train_smarter/steps.py"),
        *("src/my_house/__init__.py", "src/my_house/data/__init__.py", "src/my_house/data/digits.py"),
        *("src/my_house/model/__init__.py", "src/my_house/model/cnn.py", "src/my_house/model/mlp.py"),
        *("tests/conftest.py", "tests/test_contract.py", "tests/nest.bin", "tests/my_house/data/test_digits.py"),
    }


def test_an_example_brings_those_that_it_imports(first_template: Path, tmp_path: Path) -> None:
    new = forked(first_template, tmp_path, "--keep", "bag_lstm,phrases")
    assert {"src/my_house/model/bag_lstm.py", "src/my_house/model/lstm.py"} <= files(new)
    assert "conf/experiment/phrases_lstm.yaml" in files(new)
    assert "src/my_house/model/cnn.py" not in files(new)


def test_an_experiment_brings_its_data_set_and_its_model(first_template: Path, tmp_path: Path) -> None:
    new = forked(first_template, tmp_path, "--keep", "phrases_lstm")
    own = {path for path in files(new) if path.startswith("src/my_house/") and "__init__" not in path}
    assert own == {"src/my_house/data/phrases.py", "src/my_house/model/lstm.py"}
    assert "conf/search/phrases_lstm.yaml" in files(new)


def test_a_test_that_needs_an_example_that_is_not_kept_is_left_out_and_reported(
    first_template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = forked(first_template, tmp_path)
    assert "tests/my_house/model/test_cnn.py" not in files(new)
    assert "Left out tests/nest/model/test_cnn.py: it needs phrases" in capsys.readouterr().out


def test_the_engines_tests_come_if_requested(first_template: Path, tmp_path: Path) -> None:
    assert "tests/train_smarter/test_steps.py" in files(forked(first_template, tmp_path, "--engine-tests"))


@pytest.mark.parametrize(
    ("keep", "defaults"),
    [
        (["--keep", "cnn,digits"], ["data: digits", "model: cnn"]),  # the template's
        (["--keep", "mlp,lstm,phrases,digits"], ["data: phrases", "model: lstm"]),  # an experiment's, the first named
        (["--keep", "bag_lstm,phrases"], ["data: phrases", "model: lstm"]),
        (["--keep", "digits,bag_lstm"], ["data: ???", "model: ???"]),  # they do not fit each other
        (["--keep", "cnn"], ["data: ???", "model: ???"]),
        (["--bare"], ["data: ???", "model: ???"]),
    ],
)
def test_the_default_run_names_a_data_set_and_a_model_that_are_kept_and_fit(
    first_template: Path, tmp_path: Path, keep: list[str], defaults: list[str]
) -> None:
    lines = (forked(first_template, tmp_path, *keep) / "conf" / "train.yaml").read_text().splitlines()
    assert [line.strip(" -") for line in lines[2:4]] == defaults


def test_a_bare_fork_has_no_example_and_runs_the_contract_tests_once_there_is_a_default(
    first_template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = forked(first_template, tmp_path, "--bare")
    own = {path for path in files(new) if path.startswith("src/my_house/")}
    assert own == {f"src/my_house/{path}__init__.py" for path in ("", "data/", "model/")}
    assert "scaffold.py add data NAME" in capsys.readouterr().out
    ignored: list[list[str]] = []
    for _ in range(2):
        names: dict[str, list[str]] = {}
        exec((new / "conftest.py").read_text(), {"__file__": str(new / "conftest.py")}, names)
        ignored.append(names["collect_ignore"])
        text = (new / "conf/train.yaml").read_text()
        (new / "conf/train.yaml").write_text(text.replace("???", "mine"))
    assert "tests/test_contract.py" in ignored[0]
    assert ignored[1] == []


def test_commands_with_a_choice_that_is_not_there_leave_the_comments(house: Path) -> None:
    text = (house / "conf/search/default.yaml").read_text()
    assert text == "# train -m search=default model=cnn\nn: 1\n"


def test_commands_with_a_choice_that_is_not_there_leave_the_guide(house: Path) -> None:
    text = (house / "docs/guide.md").read_text()
    assert text == "# Guide\n```bash\ntrain model=cnn data=digits\n```\n\nThe end of my_house.data.\n"


def test_a_result_of_ours_becomes_not_measured_yet(house: Path) -> None:
    lines = (house / "conf/experiment/digits_mlp.yaml").read_text().splitlines()
    assert lines[1:3] == ["# The MLP. Not measured yet. No download.", "#   train experiment=digits_mlp"]


def test_lines_marked_as_the_templates_own_are_removed(house: Path) -> None:
    assert (house / "docs/security.md").read_text() == "# Security\nThe end.\n"
    content = tomllib.loads((house / "pyproject.toml").read_text())
    assert content["project"]["optional-dependencies"] == {}
    assert content["tool"]["ruff"] == {"src": ["src"], "lint": {"per-file-ignores": {}}}
    assert content["tool"]["mypy"]["mypy_path"] == "src"


def test_a_marker_without_its_end_is_reported(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (template / "Makefile").write_text("# template only: begin\ntest:\n")
    git(template, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--all", "--message=two")
    message = refusal(capsys, template, str(tmp_path / "new"))
    assert "Makefile in the template has" in message
    assert not (tmp_path / "new").exists()


def test_a_value_of_pyproject_that_is_not_edited_is_reported(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (template / "pyproject.toml").open("a") as file:
        file.write('[tool.other]\nfolder = "lab/x"\n')
    git(template, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--all", "--message=two")
    assert "value that is not edited yet: 'lab/x'" in refusal(capsys, template, str(tmp_path / "new"))


def test_the_readme_is_about_the_fork_in_at_most_60_lines(house: Path) -> None:
    lines = (house / "README.md").read_text().splitlines()
    assert lines[0] == "# My House"
    assert len(lines) <= 60


def test_the_licence_keeps_its_notice_and_gets_a_second_one(house: Path) -> None:
    notices = [line for line in (house / "LICENSE").read_text().splitlines() if line.startswith("Copyright")]
    assert notices == ["Copyright (c) 2020 The Old Nest authors", "Copyright (c) The My House authors"]


# ---- the repository


def test_the_fork_is_one_commit_on_main_and_template_without_any_configured_user(house: Path) -> None:
    assert git(house, "status", "--porcelain") == ""
    assert git(house, "branch", "--format=%(refname:short)").split() == ["main", "template"]
    assert git(house, "rev-parse", "main") == git(house, "rev-parse", "template")
    assert git(house, "log", "--format=%an") == "Train Smarter\n"
    assert git(house, "ls-files", "--stage", "run").startswith("100755")


def test_the_configured_user_makes_the_commit(first_template: Path, tmp_path: Path) -> None:
    git(first_template, "config", "--global", "user.name", "Ada")
    git(first_template, "config", "--global", "user.email", "ada@example.org")
    assert git(forked(first_template, tmp_path), "log", "--format=%an %ae").split() == ["Ada", "ada@example.org"]


def test_the_record_has_origin_commit_and_arguments(first_template: Path, tmp_path: Path) -> None:
    record = tomllib.loads((forked(first_template, tmp_path, "--engine-tests") / ".template.toml").read_text())
    assert record == {
        "origin": str(first_template),
        "commit": git(first_template, "rev-parse", "HEAD").strip(),
        "arguments": ["--name", "my_house", "--keep", "digits,cnn,mlp", "--engine-tests"],
    }


def test_the_origin_of_a_pushed_commit_is_the_remotes_address_without_a_token(template: Path, tmp_path: Path) -> None:
    git(template, "remote", "add", "origin", "https://ada:secret@example.org/nest.git")
    git(template, "update-ref", "refs/remotes/origin/main", "HEAD")
    record = tomllib.loads((forked(template, tmp_path) / ".template.toml").read_text())
    assert record["origin"] == "https://example.org/nest.git"


def test_the_same_commit_gives_the_same_fork_whatever_is_edited_since(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees = []
    for name in ("one", "two"):
        assert fork.main([str(tmp_path / name), "--name", "my_house"], root=template) == 0
        trees.append(git(tmp_path / name, "rev-parse", "HEAD^{tree}"))
        (template / "Makefile").write_text("edited\n")
        (template / "untracked.txt").touch()
    assert trees[0] == trees[1]
    assert "not committed: Makefile, untracked.txt" in capsys.readouterr().out


def test_the_standard_library_is_enough(template: Path) -> None:
    command = [sys.executable, "-I", "-S", "scripts/fork.py", "../new", "--name", "my_house"]  # no site-packages
    done = subprocess.run(command, cwd=template, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3] == "  cd ../new"


# ---- what is refused


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "is not a package name") for name in ("my-house", "2houses", "House", "größe", "_house", "my__house")),
        ("../house", "is not a package name"),
        ("", "is not a package name"),
        ("class", "is a Python keyword"),
        ("match", "is a Python keyword"),
        ("nest", "is a package of the template"),
        ("train_smarter", "is a package of the template"),
        ("digits", "has a meaning in this project already"),
        ("model", "has a meaning in this project already"),
        ("docs", "has a meaning in this project already"),
        ("con", "Windows reserves"),
        ("a" * 31, "has 31 characters"),
        *((name, "would hide the module") for name in ("test", "json", "winreg", "scikit_learn", "notinstalledhere")),
    ],
)
def test_a_name_that_would_break_the_fork_is_refused(name: str, reason: str, first_template: Path) -> None:
    with pytest.raises(UserError, match=reason):
        check_name(name, read(first_template))


def test_a_refused_name_is_one_line_and_makes_no_folder(
    first_template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, first_template, str(tmp_path / "new"), "--name=My-House")
    assert message.startswith("fork.py: --name 'My-House' is not a package name")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("old", "is inside the template"),
        ("old/fork", "is inside the template"),
        ("old/../old/fork", "is inside the template"),
        ("full", "exists and is not an empty folder"),
        ("full/file", "exists and is not an empty folder"),
        ("full/file/below", "is a file"),
        (".", "exists and is not an empty folder"),
    ],
)
def test_a_target_that_is_in_use_is_refused_in_one_line(
    target: str, reason: str, template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert reason in refusal(capsys, template, str(tmp_path / target), "--name", "my_house")
    assert (tmp_path / "full" / "file").read_text() == "mine"


def test_an_example_that_does_not_exist_is_refused_with_the_nearest_name(
    first_template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, first_template, str(tmp_path / "new"), "--keep", "cnn,digit")
    assert "--keep 'digit' is not an example. Did you mean digits?" in message
    assert "There are: bag_lstm, cnn, digits, lstm, mlp, phrases; all" in message
    assert "use --bare" in refusal(capsys, first_template, str(tmp_path / "new"), "--keep", ",")


@pytest.mark.parametrize("words", [["--keep", "cnn", "--bare"], ["--kep", "cnn"], [], ["a", "b"]])
def test_a_wrong_argument_is_refused_in_one_line(
    first_template: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        fork.main(["new", *words] if words else [], root=first_template)
    assert capsys.readouterr().err.count("\n") == 1


def test_without_git_it_is_refused_in_one_line(
    first_template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git is not installed" in refusal(capsys, first_template, str(tmp_path / "new"))


def test_outside_of_a_checkout_it_is_refused_in_one_line(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (template / ".git").rename(template / "no_git")
    assert "is not a git checkout" in refusal(capsys, template, str(tmp_path / "new"))


# ---- failures


def test_a_commit_that_fails_leaves_nothing_of_the_fork_nor_of_its_parents(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "pre-commit").write_bytes(b"#!/bin/sh\necho not today >&2\nexit 1\n")
    (tmp_path / "hooks" / "pre-commit").chmod(0o755)
    git(template, "config", "--global", "core.hooksPath", str(tmp_path / "hooks"))
    assert "not today" in refusal(capsys, template, str(tmp_path / "some" / "new"), "--name", "my_house")
    assert not (tmp_path / "some").exists()


def test_an_interrupt_empties_the_folder_that_was_there(
    first_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(target: Path, *_: object) -> None:
        git(target, "init", "--quiet")
        raise KeyboardInterrupt

    monkeypatch.setattr(fork, "_commit", interrupt)
    (tmp_path / "new").mkdir()
    assert fork.main([str(tmp_path / "new"), "--name", "my_house"], root=first_template) == 130
    assert list((tmp_path / "new").iterdir()) == []
    assert "nothing is left" in capsys.readouterr().err


# ---- this template


def test_a_fork_of_this_template_has_no_measurement_of_ours_and_passes_the_linter(tmp_path: Path) -> None:
    name = "zebra_" + "x" * 24  # as long as it may be, and after the engine's in the alphabet
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert fork.main([str(tmp_path / name), "--keep", "all"]) == 0
    texts = {path: (tmp_path / name / path).read_text("utf8") for path in files(tmp_path / name)}
    measured = set(re.findall(r"\b0\.\d{4}\b", (ROOT / "docs" / "results.md").read_text(encoding="utf8")))
    own = {path: text for path, text in texts.items() if not path.startswith(("src/", "tests/"))}
    assert measured
    assert [path for path, text in own.items() if any(number in text for number in measured)] == []
    package = read(ROOT).project
    assert [path for path, text in texts.items() if re.search(rf"(?<![\w]){package}(?=[./])", text)] == []
    links = {(path, to) for path, text in own.items() for to in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", text)}
    assert ("docs/large_data.md", "guide.md") in links
    assert [(path, to) for path, to in links if not (tmp_path / name / path).parent.joinpath(to).exists()] == []
    if ruff := shutil.which("ruff", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])):
        for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
            done = subprocess.run(
                [ruff, *command, "."], cwd=tmp_path / name, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("keep", [[], ["--keep", "all"], ["--bare"]])
def test_a_fork_of_this_template_passes_its_own_tests_and_types(tmp_path: Path, keep: list[str]) -> None:
    assert fork.main([str(tmp_path / "my_house"), *keep]) == 0
    root = tmp_path / "my_house"
    env = {**os.environ, "PYTHONPATH": str(root / "src"), "TRAIN_SMARTER_ROOT": str(root)}
    for command in (["mypy"], ["pytest", "-q", "-p", "no:cacheprovider"]):
        words = [sys.executable, "-m", *command]
        done = subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
