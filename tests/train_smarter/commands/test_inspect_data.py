"""`train debug=data`: what it shows of each kind of data, and what it refuses."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig

import train_smarter
from train_smarter.commands.train import run_train
from train_smarter.config.build import build
from train_smarter.errors import UserError
from train_smarter.history.find import find
from train_smarter.inspection import input_path
from train_smarter.run.files import read_json

Compose = Callable[..., DictConfig]
Typed = Callable[..., tuple[int, str]]
WORDS = ["debug=data", "trainer=cpu"]


@pytest.fixture
def inspect(compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str]]:
    """Look at data; return the content of data.json and what the terminal shows."""

    def run(*words: str) -> tuple[Any, str]:
        capsys.readouterr()
        assert run_train(compose(*WORDS, *words)) is None
        return read_json(tmp_path / "run" / "data.json"), capsys.readouterr().out

    return run


def test_images_are_shown_in_the_terminal_and_on_a_page(
    inspect: Callable[..., tuple[Any, str]], tmp_path: Path
) -> None:
    found, told = inspect("model=mlp")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"data.json", "data.html"}
    assert f"page: {tmp_path}/run/data.html" in told
    assert re.search(r"train +1,079 .*\nval +359 .*\ntest +359 ", told)
    assert re.search(r"^ *0 +106 +36 +36$", told, re.MULTILINE)
    assert "same inputs: none" in told
    assert re.search(r"loss at initial weights: 2\.\d+ \(by chance: 2\.302\)", told)
    assert max(map(len, told.splitlines()[:-1])) <= 80
    text = (tmp_path / "run" / "data.html").read_text(encoding="utf8")
    assert text.count('<img src="data:image/png;base64') == 2 * 16  # with and without augmentation
    assert [item["caption"] for item in found["views"][0]["items"]][:3] == ["8", "3", "2"]
    assert found["findings"] == []


class Recorder(Callback):
    """Collects the inputs of the training batches."""

    def __init__(self, seen: list[torch.Tensor]) -> None:
        self.seen = seen

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        self.seen.append(batch[0])


def test_the_batch_is_the_first_one_of_the_training(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    taken = input_path.read_batches

    def read(*given: Any) -> Any:
        seen.append((path := taken(*given)).batch[0])
        return path

    monkeypatch.setattr("train_smarter.inspection.overview.read_batches", read)
    run_train(compose(*WORDS, "model=mlp", "seed=3"))
    cfg = compose("model=mlp", "trainer=cpu", "seed=3", "debug=fdr", "logger=none", "callbacks=none")
    run = build(cfg, Recorder(seen))
    run.trainer.fit(run.model, datamodule=run.data)
    augmented, plain, trained = seen
    assert augmented.equal(trained)
    assert not plain.equal(trained)


def test_masks_texts_tables_and_labels_are_shown_with_their_names(inspect: Callable[..., tuple[Any, str]]) -> None:
    found, _ = inspect("data=blobs", "model=unet_tiny")
    [view] = found["views"]
    assert (view["title"], len(view["items"][0]["images"])) == ("images: image, mask, both", 3)
    assert [name for name, _ in view["legend"]] == list(found["targets"][0]["counts"])
    found, told = inspect("data=phrases", "model=lstm")
    [view] = found["views"]
    assert view["kind"] == "texts"
    assert {item["caption"] for item in view["items"]} == {"negative", "positive"}
    assert all(re.fullmatch(r"[a-z' ]+", item["text"]) for item in view["items"])
    assert "words: 0.0% of val without an id" in told
    found, _ = inspect("data=numbers", "model=linear")
    assert (found["views"][0]["kind"], len(found["views"][0]["columns"])) == ("table", 6)
    assert found["targets"][0]["kind"] == "numbers"
    found, _ = inspect("data=tags", "model=linear")
    assert found["targets"][0]["kind"] == "labels"


def test_a_model_that_does_not_fit_is_left_out_and_the_reason_is_shown(
    inspect: Callable[..., tuple[Any, str]],
) -> None:
    found, told = inspect("data=phrases", "model=cnn")
    assert found["loss"] is None
    assert "loss: not measured: model=cnn does not fit data=phrases" in told


def test_a_plain_datamodule_shows_its_first_batch(inspect: Callable[..., tuple[Any, str]]) -> None:
    found, told = inspect("data=plain", "model=plain", "monitor=val_loss")
    assert [(part["part"], part["shape"]) for part in found["batch"]] == [("inputs", [16, 1]), ("targets", [16, 1])]
    assert (found["splits"], found["duplicates"]) == ([], None)
    assert "Points: batches" in told
    found, _ = inspect("data=plain_dicts", "model=plain_dicts", "monitor=val_loss")
    assert [part["part"] for part in found["batch"]] == ["inputs.x", "inputs.y"]


def test_labels_that_do_not_fit_the_task_are_a_problem_and_the_data_are_shown(
    inspect: Callable[..., tuple[Any, str]],
) -> None:
    found, told = inspect("task.num_classes=5", "model=mlp")
    assert [one["name"] for one in found["findings"]][:1] == ["targets_do_not_fit"]
    assert "problem: targets do not fit: a class of train is not in 0 to 4: 9" in told


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["inspect.examples=0"], "inspect.examples=0: give a whole number of at least 1"),
        (["inspect=5"], "inspect=5: give null, or type debug=data"),
        (["optimizer.lr=-1"], "optimizer.lr=-1: give a finite number above 0"),
        (["data=images"], "data.dir has no value yet: type data.dir=<folder of images>"),
        (["data.num_classes=11"], "data.num_classes=11, but Digits has 10"),
        (["-m", "seed=1,2"], "debug=data looks at one data set at a time: type it without -m"),
    ],
)
def test_what_cannot_be_shown_is_answered_in_a_line(
    typed: Typed, tmp_path: Path, words: list[str], answer: str
) -> None:
    code, told = typed(*WORDS, *words)
    assert code == 2
    assert answer in told
    assert "Traceback" not in told
    assert not list((tmp_path / "train").glob("data/*"))


def test_it_resumes_nothing_and_shows_a_past_runs_data(
    compose: Compose, past_run: Path, inspect: Callable[..., tuple[Any, str]]
) -> None:
    with pytest.raises(UserError, match=r"nothing to resume: .* type train rerun=.* debug=data"):
        run_train(compose(*WORDS, f"resume={past_run}"))
    found, _ = inspect(f"rerun={past_run}", "model=mlp", "data.batch_size=8")
    assert found["batch"][0]["shape"] == [8, 1, 28, 28]
    assert read_json(past_run / "record.json")["status"] == "done"


def test_its_folder_is_no_run_and_python_gets_the_data_and_what_was_found(tmp_path: Path) -> None:
    run = train_smarter.train([*WORDS, "model=mlp", f"paths.logs={tmp_path}"])
    assert run.folder.parent == tmp_path / "train" / "data"
    assert run.results.details["data"]["data"] == "Digits"
    assert (run.results.checkpoint, run.results.epochs) == (None, 0)
    assert len(run.data.examples["train"]) == 1079
    with pytest.raises(UserError, match="run=last: there is nothing under"):
        find("last", tmp_path)
