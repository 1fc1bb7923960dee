"""A damaged file of a run's folder is named, with what to type."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from train_smarter.commands import evaluate, predict, train
from train_smarter.errors import UserError
from train_smarter.history import arguments
from train_smarter.run.files import read_csv

Compose = Callable[..., DictConfig]


@pytest.fixture
def broken_off(past_run: Path) -> Path:
    """A run that was interrupted after two epochs."""
    file = past_run / "record.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "interrupted"}))
    return past_run


def words_for(folder: Path, verb: str) -> list[str]:
    if verb == "train":
        return arguments.argv_for_train([f"resume={folder}"], folder.parent)
    return arguments.argv_for_reader([f"run={folder}"], verb, folder.parent)


def resume(compose: Compose, folder: Path) -> None:
    words = [word for word in words_for(folder, "train") if not word.startswith("hydra.")]
    train.run_train(compose(*words))


TABLES = {
    "metrics.csv": [
        b"\x89PNG\r\n\xff\xfe",
        b"step,val/loss\n1,2\n",
        b"epoch,val/accuracy\n0,high\n",
        b"epoch,val/accuracy\n0,0.5\n\x00,\x00\n",
        b'epoch,val/accuracy\n0,"0.5\n',
        b"epoch,val/accuracy\n0," + b"9" * 140_000 + b"\n",
        b"epoch,val/accuracy\n-1,0.5\n",
    ],
    "layers.csv": [b"layer,grad_norm\nlayers.1,0.1\n", b"epoch,layer,grad_norm\n0,layers.1,big\n"],
    "record.json": [b"", b"{", b"[]", b'{"resumed": 3}', b'{"status": ["running"]}', b'{"seed": "one"}'],
    ".hydra/config.yaml": [b"", b"a: [", b"- a\n", b"\xff\xfe\x00", b"data:\n  batch_size: 3\n"],
    ".hydra/overrides.yaml": [b"", b"a: 1\n", b"- [", b"\x00"],
}


@pytest.mark.parametrize(("name", "content"), [(name, one) for name, all_of in TABLES.items() for one in all_of])
def test_resume_names_a_damaged_file_and_what_to_type(
    compose: Compose, broken_off: Path, name: str, content: bytes
) -> None:
    file = broken_off / name
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        resume(compose, broken_off)
    assert str(caught.value).startswith(f"{file} ")
    assert f"mv {file} {file.name}.damaged" in str(caught.value)


def test_a_folder_in_the_place_of_a_file_is_named(compose: Compose, broken_off: Path) -> None:
    (broken_off / "metrics.csv").unlink()
    (broken_off / "metrics.csv").mkdir()
    with pytest.raises(UserError, match=r"metrics\.csv: Is a directory"):
        resume(compose, broken_off)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metrics.csv", "layers.csv", "record.json", ".hydra/overrides.yaml"])
def test_a_run_resumes_without_the_file_that_was_moved_away(compose: Compose, broken_off: Path, name: str) -> None:
    (broken_off / name).rename(broken_off / "moved")
    resume(compose, broken_off)
    assert json.loads((broken_off / "record.json").read_text())["status"] == "done"


@pytest.mark.parametrize("content", [b"", pytest.param(None, marks=pytest.mark.slow)])
def test_a_run_whose_best_checkpoint_is_lost_ends_with_its_last_one(
    compose: Compose, broken_off: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    best, before = broken_off / "checkpoints" / "best.ckpt", read_csv(broken_off / "metrics.csv")
    if content is None:
        best.unlink()
    else:
        best.write_bytes(content)
    (broken_off / "results.json").unlink()
    with caplog.at_level("WARNING"):
        resume(compose, broken_off)
    assert f"{best} cannot be used" in caplog.text
    results = json.loads((broken_off / "results.json").read_text())
    assert (results["best_value"], results["best_epoch"]) == (float(before[1]["val/accuracy"]), 1)
    assert results["val/accuracy"] == pytest.approx(results["best_value"])  # of the same weights


@pytest.mark.slow
def test_a_run_that_is_done_and_lost_its_results_is_evaluated_again(compose: Compose, past_run: Path) -> None:
    before = json.loads((past_run / "results.json").read_text())
    (past_run / "results.json").write_text("{")
    resume(compose, past_run)
    after = json.loads((past_run / "results.json").read_text())
    assert {name: value for name, value in before.items() if name.startswith("test/")} == {
        name: value for name, value in after.items() if name.startswith("test/")
    }
    assert (after["best_value"], after["best_epoch"]) == (before["best_value"], before["best_epoch"])


@pytest.mark.slow
def test_a_damaged_preprocessing_is_written_again_when_the_run_resumes(compose: Compose, broken_off: Path) -> None:
    file = broken_off / "preprocess.json"
    before = file.read_bytes()
    file.write_bytes(before[:20])
    resume(compose, broken_off)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("verb", "content"),
    [("evaluate", b""), ("evaluate", b'{"mean": "a"}'), ("evaluate", b'{"names": 3}'), ("predict", b"[]")],
)
def test_without_its_preprocessing_a_run_cannot_be_used_and_is_trained_again(
    compose: Compose, past_run: Path, verb: str, content: bytes
) -> None:
    (past_run / "preprocess.json").write_bytes(content)
    best = past_run / "checkpoints" / "best.ckpt"  # as an older version saved it
    torch.save({key: value for key, value in torch.load(best, weights_only=True).items() if key != "Digits"}, best)
    words = [word for word in words_for(past_run, verb) if not word.startswith("hydra.")]
    run = {"evaluate": evaluate.run_evaluate, "predict": predict.run_predict}[verb]
    with pytest.raises(UserError, match=r"preprocess\.json(:? its)? (is|holds|preprocessing does).*train rerun="):
        run(compose(*words, *(["split=test"] if verb == "predict" else []), verb=verb))
