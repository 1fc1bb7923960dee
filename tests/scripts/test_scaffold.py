import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

import scaffold
import scaffold_config
import scaffold_files
from train_smarter import paths
from train_smarter.config.check import check
from train_smarter.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
# A small project under another name, as a fork has it: two kinds of data, two kinds of models.
FILES = {
    "pyproject.toml": '[project]\nname = "nest"\n[project.entry-points."train_smarter.project"]\nproject = "nest"\n',
    "conf/train.yaml": "defaults:\n  - _self_\n  - data: eggs   # the default\n  - model: cnn\n\nseed: 1\n",
    "conf/data/_image.yaml": "batch_size: 8\n",
    "conf/data/eggs.yaml": "defaults: [_image, _self_]\n_target_: nest.data.eggs.Eggs\nshape: [3, 8, 8]\n",
    "conf/data/photos.yaml": "defaults: [_image, _self_]\n_target_: nest.data.photos.Photos\nshape: [3]\nurls: [x]\n",
    "conf/data/songs.yaml": "_target_: nest.data.songs.Songs\nvocab_size: 9  # ids\n",
    "conf/data/images.yaml": "_target_: train_smarter.data.images.Images\ndir: ???  # yours\nshape: [3, 8, 8]\n",
    "conf/model/cnn.yaml": "_target_: nest.model.cnn.CNN\nshape: ${data.shape}\n",
    "conf/model/mlp.yaml": "_target_: nest.model.mlp.MLP\nshape: ${data.shape}\n",
    "conf/model/lstm.yaml": "_target_: nest.model.lstm.LSTM\nvocab_size: ${data.vocab_size}\n",
    "conf/experiment/none.yaml": "# @package _global_\n{}\n",
    "conf/experiment/eggs_cnn.yaml": "defaults:\n  - override /data: eggs\n  - override /model: cnn\n",
    "conf/experiment/eggs_long.yaml": "defaults:\n  - eggs_cnn\ntrainer: {max_epochs: 9}\n",
    "conf/experiment/photos_mlp.yaml": "defaults:\n  - override /data: photos\n  - override /model: mlp\n",
    "conf/search/eggs_cnn.yaml": "defaults:\n  - override /experiment: eggs_cnn\n",
    "conf/search/models.yaml": "hydra:\n  sweeper:\n    params:\n      model: choice(cnn, mlp)\n",
    "conf/optimizer/adam.yaml": "_target_: torch.optim.Adam\n",
    "README.md": "`train data=eggs`, `train model=cnn,mlp`\n",
    "tests/nest/data/test_eggs.py": "from nest.data.eggs import Eggs\n",
}
MODULES = ["data/eggs", "data/photos", "data/songs", "model/cnn", "model/mlp", "model/lstm"]
Run = Callable[..., tuple[int, str]]
Compose = Callable[..., DictConfig]


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for key in [key for key in os.environ if key.startswith("GIT_")]:
        monkeypatch.delenv(key)
    root = tmp_path / "nest"
    for path, text in {**FILES, **{f"src/nest/{module}.py": "import torch\n" for module in MODULES}}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text.encode())
    git(root, "init", "--quiet")
    commit(root)
    return root


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "-m", "x")


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def typed(*words: str) -> tuple[int, str]:
        code = scaffold.main(words, root=project)
        output = capsys.readouterr()
        return code, output.out + output.err

    return typed


def content(root: Path) -> dict[str, bytes]:
    """Every file outside of .git."""
    files = [path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def changes(root: Path, before: dict[str, bytes]) -> tuple[set[str], set[str]]:
    """The files that are new, and those that are gone."""
    after = content(root)
    return set(after) - set(before), set(before) - set(after)


# ---- add


@pytest.mark.parametrize(
    ("group", "files"),
    [
        ("data", {"src/nest/data/fish.py", "conf/data/fish.yaml"}),
        ("model", {"src/nest/model/fish.py", "conf/model/fish.yaml"}),
        ("task", {"src/nest/task/fish.py", "conf/task/fish.yaml"}),
        ("callback", {"src/nest/callbacks/fish.py", "conf/callbacks/fish.yaml"}),
        *((group, {f"conf/{group}/fish.yaml"}) for group in scaffold.CHOICES),
    ],
)
def test_an_addition_writes_its_files_and_names_the_command(
    run: Run, project: Path, group: str, files: set[str]
) -> None:
    before = content(project)
    code, output = run("add", group, "fish")
    assert code == 0
    assert changes(project, before) == (files, set())
    assert {name: text for name, text in content(project).items() if name in before} == before
    assert all(file in output for file in files)
    assert "train " in output
    assert "fish" in output
    written = "".join((project / file).read_text(encoding="utf8") for file in files)
    assert not [word for word in ("placeholder", "Placeholder", "your_") if word in written]


@pytest.mark.parametrize(
    ("model", "data", "fit"),
    [
        ("cnn", "eggs", True),
        ("cnn", "table", False),  # ten numbers an example are no image
        ("mlp", "table", True),
        ("unet", "eggs", False),  # an output for each pixel, and a task that needs one for each example
        ("unet", "masks", True),
        ("mlp", "masks", False),
    ],
)
def test_a_model_fits_data_with_its_kind_of_inputs_and_outputs(project: Path, model: str, data: str, fit: bool) -> None:
    for path, text in {
        "model/_base.yaml": "output_per: example\n",
        "model/cnn.yaml": "defaults: [_base, _self_]\nshape: ${image_shape:${data.shape}}\n",
        "model/mlp.yaml": "defaults: [_base, _self_]\nshape: ${data.shape}\n",
        "model/unet.yaml": "defaults: [_base, _self_]\noutput_per: pixel\nshape: ${image_shape:${data.shape}}\n",
        "task/classification.yaml": "output_per: example\n",
        "task/segmentation.yaml": "output_per: pixel\n",
        "data/table.yaml": "shape: [10]\n",
        "data/masks.yaml": "defaults: [_image, override /task@_global_.task: segmentation, _self_]\nshape: [3, 8, 8]\n",
        "train.yaml": "defaults:\n  - task: classification\n",
    }.items():
        (project / "conf" / path).parent.mkdir(exist_ok=True)
        (project / "conf" / path).write_text(text, encoding="utf8")
    assert scaffold_config.fits(project / "conf", model, data) == fit


def test_the_report_names_a_model_that_fits_new_data(run: Run) -> None:
    assert "train data=fish debug=fdr" in run("add", "data", "fish")[1]
    assert "train data=letters model=lstm debug=fdr" in run("add", "data", "letters", "--kind", "text")[1]
    assert "train model=words data=letters debug=fdr" in run("add", "model", "words", "--kind=text")[1]


def test_an_experiment_names_the_default_data_and_model(run: Run, project: Path) -> None:
    run("add", "experiment", "fish")
    text = (project / "conf/experiment/fish.yaml").read_text(encoding="utf8")
    assert "  - override /data: eggs\n  - override /model: cnn\n" in text


@pytest.mark.parametrize(
    ("name", "class_of"), [("my_fish", "MyFish"), ("raw_dataset", "RawDatasetData"), ("exception", "ExceptionData")]
)
def test_a_class_is_named_after_its_file_unless_the_name_is_used(
    run: Run, project: Path, name: str, class_of: str
) -> None:
    run("add", "data", name)
    assert f"class {class_of}(ImageData)" in (project / f"src/nest/data/{name}.py").read_text(encoding="utf8")
    assert f"_target_: nest.data.{name}.{class_of}\n" in (project / f"conf/data/{name}.yaml").read_text(encoding="utf8")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Fish.py", "for example my_fish"),
        ("2fish", "a letter first"),
        ("../fish", "is not a name"),
        ("fïsh", "is not a name"),
        ("", "is not a name"),
        ("_fish", "for example fish"),
        ("f" * 41, "up to 40"),
        ("class", "reserved"),
        ("null", "reserved"),
        ("none", "reserved"),
        ("con", "reserved"),
        ("json", "hide the module json"),
        ("torch", "hide the module torch"),
        ("train_smarter", "hide the module train_smarter"),
        ("nest", "hide the module nest"),
        ("eggs", "is in use: conf/data/eggs.yaml exists"),
    ],
)
def test_an_unusable_name_is_refused(run: Run, project: Path, name: str, message: str) -> None:
    before = content(project)
    code, output = run("add", "data", name)
    assert (code, message in output) == (2, True), output
    assert content(project) == before


@pytest.mark.parametrize("file", ["src/nest/data/fish.py", "conf/data/fish.yaml"])
def test_no_file_is_overwritten(run: Run, project: Path, file: str) -> None:
    (project / file).write_text("mine", encoding="utf8")
    assert run("add", "data", "fish")[0] == 2
    assert (project / file).read_text(encoding="utf8") == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["modle", "fish"], "did you mean 'model'?"),
        (["optimizer", "fish", "--kind=text"], "--kind=text is for data and model"),
    ],
)
def test_another_group_is_refused_with_what_is_accepted(run: Run, words: list[str], message: str) -> None:
    code, output = run("add", *words)
    assert (code, message in output) == (2, True), output


def test_a_failure_in_the_middle_of_an_addition_leaves_nothing(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = content(project), scaffold_files.write

    def fail_at_the_config(file: Path, text: str, undo: object) -> None:
        if file.suffix == ".yaml":
            raise OSError(28, "No space left on device", str(file))
        real(file, text, undo)  # type: ignore[arg-type]

    monkeypatch.setattr(scaffold_files, "write", fail_at_the_config)
    code, output = run("add", "callback", "fish")
    assert (code, "No space left on device. Nothing was changed" in output) == (2, True), output
    assert content(project) == before
    assert not (project / "src/nest/callbacks").exists()
    assert not list(project.glob(".scaffold-*"))


# ---- remove


def test_a_removal_takes_code_tests_experiments_and_searches_along(run: Run, project: Path) -> None:
    before = content(project)
    code, output = run("remove", "eggs")
    assert code == 0, output
    assert changes(project, before) == (
        set(),
        {
            "src/nest/data/eggs.py",
            "conf/data/eggs.yaml",
            "tests/nest/data/test_eggs.py",
            "conf/experiment/eggs_cnn.yaml",
            "conf/experiment/eggs_long.yaml",  # builds on eggs_cnn
            "conf/search/eggs_cnn.yaml",
        },
    )
    assert "Commands in these files still name what is removed:\n  README.md\n" in output


def test_new_defaults_need_no_download_and_fit_each_other(run: Run, project: Path) -> None:
    run("remove", "eggs")
    # photos would fit the CNN, but has to be downloaded; images needs a folder
    text = (project / "conf/train.yaml").read_text(encoding="utf8")
    assert text == FILES["conf/train.yaml"].replace("eggs ", "songs ").replace("cnn", "lstm")


def test_without_the_default_model_the_data_set_stays(run: Run, project: Path) -> None:
    run("remove", "cnn")
    text = (project / "conf/train.yaml").read_text(encoding="utf8")
    assert text == FILES["conf/train.yaml"].replace("cnn", "mlp")
    assert not (project / "conf/search/models.yaml").exists()  # it chooses between cnn and mlp


def test_defaults_that_remain_are_left_as_they_are(run: Run, project: Path) -> None:
    before = (project / "conf/train.yaml").read_bytes()
    assert run("remove", "photos")[0] == 0
    assert (project / "conf/train.yaml").read_bytes() == before


def test_line_ends_of_windows_are_preserved(run: Run, project: Path) -> None:
    file = project / "conf/train.yaml"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    run("remove", "cnn")
    assert file.read_bytes() == FILES["conf/train.yaml"].replace("cnn", "mlp").replace("\n", "\r\n").encode()


def test_the_last_data_set_and_the_last_model_are_refused(run: Run, project: Path) -> None:
    assert [run("remove", name)[0] for name in ("photos", "songs")] == [0, 0]
    before = content(project)
    code, output = run("remove", "eggs")
    assert (code, "it is the last data set (images cannot be the default" in output) == (2, True), output
    assert content(project) == before
    assert [run("remove", name)[0] for name in ("lstm", "mlp")] == [0, 0]
    code, output = run("remove", "cnn")
    assert (code, "it is the last model. Add another first: scaffold.py add model NAME" in output) == (2, True), output


def test_a_removal_after_which_nothing_fits_is_refused(run: Run) -> None:
    assert [run("remove", name)[0] for name in ("mlp", "songs")] == [0, 0]
    code, output = run("remove", "cnn")
    assert (code, "none of the models lstm fits one of the data sets eggs, photos" in output) == (2, True), output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["egs"], "did you mean 'eggs'?"),
        (["model", "eggs"], "there is no choice 'eggs' in conf/model: give one of cnn, lstm, mlp"),
        (["eggs_cnn"], "type remove experiment eggs_cnn or remove search eggs_cnn"),
        (["data", "eggs", "songs"], "give one name"),
        (["images"], "data=images is the engine's"),
        (["none"], "there is no choice 'none'"),
        (["_image"], "there is no choice '_image'"),
        (["../train"], "there is no choice '../train'"),
    ],
)
def test_what_cannot_be_removed_is_refused(run: Run, project: Path, words: list[str], message: str) -> None:
    before = content(project)
    code, output = run("remove", *words)
    assert (code, message in output) == (2, True), output
    assert content(project) == before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("src/nest/data/nests.py", "from nest.data.eggs import Eggs\n"),
        ("src/nest/data/nests.py", "from .eggs import Eggs\n"),
        ("src/nest/data/nests.py", "from . import eggs\n"),
        ("src/nest/data/nests.py", "import nest.data.eggs\n"),
        ("conf/data/nests.yaml", "defaults: [eggs, _self_]\n"),
        ("conf/data/nests.yaml", "defaults:\n  - eggs\n  - _self_\n"),
        ("conf/debug/mine.yaml", "defaults:\n  - override /data: eggs\n"),
        ("tests/nest/model/test_cnn.py", "from nest.data.eggs import Eggs\n"),
    ],
)
def test_what_other_files_need_is_refused_with_their_names(run: Run, project: Path, file: str, text: str) -> None:
    (project / file).parent.mkdir(parents=True, exist_ok=True)
    (project / file).write_text(text, encoding="utf8")
    code, output = run("remove", "eggs")
    assert (code, f"data=eggs is in use: change or remove {file} first" in output) == (2, True), output


def test_a_config_choice_that_is_named_is_refused(run: Run, project: Path) -> None:
    (project / "tests/test_all.py").write_text('run("optimizer=adam")\n', encoding="utf8")
    code, output = run("remove", "adam")
    assert (code, "optimizer=adam is in use: change or remove tests/test_all.py first" in output) == (2, True), output


def test_work_that_git_does_not_have_is_not_deleted(run: Run, project: Path) -> None:
    run("add", "data", "fish")
    assert run("remove", "fish")[0] == 0  # as it was written
    run("add", "data", "fish")
    module = project / "src/nest/data/fish.py"
    module.write_text("# a day of work\n", encoding="utf8")
    code, output = run("remove", "fish")
    assert (code, "git has no copy of src/nest/data/fish.py as on disk" in output) == (2, True), output
    assert module.is_file()
    commit(project)
    assert run("remove", "fish")[0] == 0
    (project / "src/nest/data/eggs.py").write_text("# another day\n", encoding="utf8")
    assert run("remove", "eggs")[0] == 2
    assert run("remove", "eggs", "--force")[0] == 0


def test_a_failure_in_the_middle_of_a_removal_leaves_everything(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(project)

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "train.yaml")

    monkeypatch.setattr(scaffold_files, "write", fail)  # of conf/train.yaml, after the files were moved away
    code, output = run("remove", "eggs")
    assert (code, "train.yaml: Permission denied. Nothing was changed" in output) == (2, True), output
    assert content(project) == before
    assert not list(project.glob(".scaffold-*"))


@pytest.mark.parametrize("words", [["add", "data", "fish"], ["remove", "eggs"]])
def test_a_dry_run_changes_nothing(run: Run, project: Path, words: list[str]) -> None:
    before = content(project)
    code, output = run(*words, "--dry-run")
    assert (code, "Nothing was changed" in output) == (0, True)
    assert content(project) == before


# ---- the project around it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("[project", "cannot be read"),
        ("[project]\n", "names 0 packages"),
        ('[project.entry-points."train_smarter.project"]\na = "nest"\nb = "den"\n', "names 2 packages"),
        ('[project.entry-points."train_smarter.project"]\na = "den"\n', "den is missing"),
    ],
)
def test_a_project_that_cannot_be_found_is_named(run: Run, project: Path, text: str | None, message: str) -> None:
    (project / "pyproject.toml").unlink()
    if text is not None:
        (project / "pyproject.toml").write_text(text, encoding="utf8")
    code, output = run("add", "data", "fish")
    assert (code, message in output) == (2, True), output


def test_help_shows_examples_and_groups(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["add", "--help"], ["remove", "--help"]):
        with pytest.raises(SystemExit) as end:
            scaffold.main(words)
        assert end.value.code == 0
    output = capsys.readouterr().out
    assert "scaffold.py add data flowers" in output
    assert "data, model, task, callback; or a config alone: optimizer" in " ".join(output.split())


@pytest.mark.slow
def test_it_knows_which_models_fit_which_data_as_the_check_does(compose: Compose) -> None:
    for data in scaffold_config.choices(paths.CONF, "data"):
        for model in scaffold_config.choices(paths.CONF, "model"):
            given = ["data.dir=.", "data.num_classes=2"] if data == "images" else []
            fits = scaffold_config.fits(paths.CONF, model, data)
            cfg = compose(f"data={data}", f"model={model}", *given)
            with contextlib.nullcontext() if fits else pytest.raises(UserError, match="does not fit"):
                check(cfg)


# ---- what is written works


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of this project, without the engine and the tests."""
    for name in ("conf", f"src/{paths.PROJECT}"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "local"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ["image", pytest.param("text", marks=pytest.mark.slow)])
def test_new_data_train_a_new_model_with_a_new_callback(copy: Path, kind: str) -> None:
    for words in (["data", "flowers_x", "--kind", kind], ["model", "tiny_x", "--kind", kind], ["callback", "hello_x"]):
        assert scaffold.main(["add", *words], root=copy) == 0
    words = ["data=flowers_x", "model=tiny_x", "callbacks=[default,hello_x]", "debug=fdr", "trainer=cpu"]
    sources = [str(copy / "src"), str(ROOT / "src")]  # the copied project before this one
    done = subprocess.run(
        [sys.executable, "-m", "train_smarter.commands.train", *words, f"paths.logs={copy}/logs"],
        cwd=copy,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sources),
            "TRAIN_SMARTER_ROOT": str(copy),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the norm of all weights is" in done.stdout


def test_every_new_config_composes(copy: Path) -> None:
    for group in scaffold.CHOICES:
        assert scaffold.main(["add", group, "new_x"], root=copy) == 0
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(copy / "conf")):
            for group in scaffold.CHOICES:
                assert hydra.compose("train", [f"{group}=new_x"]) is not None
    finally:
        GlobalHydra.instance().clear()


def test_a_missing_default_is_filled(project: Path, run: Run) -> None:
    """As in a fork without any example."""
    file = project / "conf" / "train.yaml"
    file.write_text(file.read_text().replace("data: eggs ", "data: ??? "))
    code, output = run("add", "data", "flowers")
    assert code == 0, output
    assert "  - data: flowers   # the default\n" in file.read_text()
    assert "conf/train.yaml: the default is now data: flowers" in output
