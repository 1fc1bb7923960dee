"""Train, load and predict from Python."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from PIL import Image

import train_smarter
from train_smarter import UserError
from train_smarter.run.files import read_json

# The words of conftest's past run, which the command's own function trained.
WORDS = ["model=mlp", "trainer=cpu", "trainer.max_epochs=2", "data.batch_size=32", "callbacks.progress=null"]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return [*WORDS, f"paths.logs={tmp_path / 'logs'}"]


@pytest.mark.results
def test_a_training_has_the_numbers_of_the_command(words: list[str], past_run: Path) -> None:
    torch.rand(7)  # the state that a program has left behind does not matter
    run = train_smarter.train(words)
    expected = read_json(past_run / "results.json")
    assert run.results.metrics == {name: expected[name] for name in run.results.metrics}
    assert run.results.metrics["test/accuracy"] > 0.5
    assert read_json(run.folder / "results.json")["best_value"] == run.results.best_value
    assert read_json(run.folder / "record.json")["command"] == f"train {' '.join(words)}"
    assert "train: 1079 examples" in (run.folder / "train.log").read_text(encoding="utf8")
    assert not run.model.training
    assert len(run.data.examples["train"]) == 1079


def test_the_state_of_the_program_stays_as_it_was(words: list[str]) -> None:
    root, handlers, level = logging.getLogger(), list(logging.getLogger().handlers), logging.getLogger().level
    theirs, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    train_smarter.train([*words, "debug=fdr"])
    assert (root.handlers, root.level) == (handlers, level)
    assert logging.getLogger("train_smarter").handlers == []
    assert (GlobalHydra.instance().hydra, HydraConfig.instance().cfg) == (theirs, config)


def test_new_input_is_predicted_as_by_the_command(past_run: Path, tmp_path: Path) -> None:
    model, data = train_smarter.load(past_run)
    data.setup()
    images, names = data.examples["test"].inputs[:3], []
    for number, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{number}.png")
        names.append(str(tmp_path / f"{number}.png"))
    rows = train_smarter.predict(model, data, names, device="cpu")
    with torch.inference_mode():
        probabilities = model(data.normalize(images)).softmax(1)  # type: ignore[attr-defined]
    assert [row["input"] for row in rows] == names
    assert [row["prediction"] for row in rows] == [data.names[i] for i in probabilities.argmax(1)]
    with torch.inference_mode():
        mirrored = model(data.normalize(images.flip(3))).softmax(1)  # type: ignore[attr-defined]
    (first, *_) = train_smarter.predict(model, data, names, device="cpu", tta="flip")
    assert first["probability"] == pytest.approx(float(((probabilities + mirrored) / 2)[0].max()), rel=1e-5)
    assert torch.allclose(torch.tensor([row["probability"] for row in rows]), probabilities.amax(1))
    assert [row["input"] for row in train_smarter.predict(model, data, names[0], device="cpu")] == names[:1]


def test_a_config_is_composed_and_checked_without_a_run(tmp_path: Path) -> None:
    cfg = train_smarter.compose(["data=digits", "model=mlp", "optimizer.lr=0.5"], folder=tmp_path / "new")
    assert (cfg.optimizer.lr, cfg.paths.run) == (0.5, str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match=r"optimizer\.lr=-1"):
        train_smarter.compose(["optimizer.lr=-1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("model=mlp", r"a list of words, \['model=mlp'\]"),
        (["-m", "seed=1,2"], "-m: give key=value words"),
        (["--cfg", "job"], "--cfg"),
        (["model=mpl"], "did you mean 'mlp'"),
        (["optimiser.lr=1"], "optimiser"),
        (["seed"], "give key=value"),
        (["seed=-1"], "seed=-1"),
        (["resume=nowhere"], "nowhere"),
        ([7], "7: give key=value"),
        (["hydra.run.dir=/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_a_mistake_is_one_message(words: Any, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = words if isinstance(words, str) else [*words, f"paths.logs={tmp_path}"]
    with pytest.raises(UserError, match=message):
        train_smarter.train(given)
    assert not list(tmp_path.glob("train/runs/*"))  # what a refused run began is removed
    assert "Error executing" not in capfd.readouterr().err


def test_a_training_continues_and_a_finished_one_is_not_trained_again(words: list[str]) -> None:
    first = train_smarter.train([*words, "trainer.max_epochs=1", "trainer.limit_train_batches=2", "test=false"])
    more = train_smarter.train([f"resume={first.folder}", "trainer.max_epochs=2", words[-1]])
    assert (more.folder, more.results.epochs) == (first.folder, 2)
    with pytest.raises(UserError, match=r"is done: load it with train_smarter\.load"):
        train_smarter.train([f"resume={first.folder}", words[-1]])
