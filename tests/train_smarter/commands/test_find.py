"""`train find=lr` and `train find=batch_size` end with the override to type, the same each time."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf

from train_smarter.commands import find
from train_smarter.commands.find import run_find
from train_smarter.commands.train import run_train
from train_smarter.config.build import build
from train_smarter.errors import UserError
from train_smarter.run.files import read_json

Compose = Callable[..., DictConfig]
SMALL = ["model=mlp", "trainer=cpu"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_the_rate_to_type_is_found_alike_each_time_and_nothing_that_was_trained_is_kept(
    compose: Compose, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[Any] = []
    for _ in range(2):
        cfg = compose(*SMALL, "find=lr", "find.steps=40", "find.min_lr=1e-4", "scheduler=onecycle")
        run_train(cfg, on_end=lambda run, results: ended.append((run, results)))
    assert logging.getLogger("train_smarter.data").level == logging.NOTSET  # a training that follows logs its data
    found = ended[0][1].details["find"]
    assert found == ended[1][1].details["find"] == read_json(folder / "find.json") | {"losses": found["losses"]}
    assert 1e-4 < found["value"] < 1
    assert found["override"] == f"optimizer.lr={found['value']:g}"
    assert capsys.readouterr().out.splitlines()[-1] == f"type: {found['command']}"
    assert (folder / "find.png").read_bytes()[:4] == b"\x89PNG"
    assert {path.name for path in folder.iterdir()} == {"find.json", "find.png"}
    seed_everything(1, verbose=False)
    fresh = build(compose(*SMALL)).model.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in ended[0][0].model.state_dict().items())


def test_sizes_are_measured_up_to_the_one_that_does_not_fit(
    compose: Compose, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = find._fit

    def fit_small(cfg: DictConfig, *given: Any) -> Any:
        if cfg.data.batch_size > 40:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return trained(cfg, *given)

    monkeypatch.setattr(find, "_fit", fit_small)
    run_find(compose(*SMALL, "find=batch_size", "find.min_size=16", "find.steps=2"), folder, None)
    found = read_json(folder / "find.json")
    assert [size for size, speed, _ in found["sizes"] if speed] == [16, 32, 40]
    assert [size for size, speed, _ in found["sizes"] if not speed] == [44, 48, 64]
    assert found["override"] in [f"data.batch_size={size}" for size in (16, 32, 40)]


def test_a_rate_that_lowers_no_loss_is_answered_with_a_wider_range(compose: Compose, folder: Path) -> None:
    cfg = compose(*SMALL, "find=lr", "find.steps=20", "find.min_lr=1e-12", "find.max_lr=1e-10")
    with pytest.raises(UserError, match=r"did not fall between find\.min_lr=1e-12 and .*give a wider range"):
        run_find(cfg, folder, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["find.min_lr=0"], r"find\.min_lr=0: give a finite number above 0"),
        (["find.min_lr=2"], "give a min_lr above 0 and below max_lr"),
        (["find.steps=abc"], r"find\.steps='abc': give a whole number"),
        (["find.steps=3"], "at least 20 steps"),
        (["debug=fdr"], "find=lr and debug=fdr exclude each other"),
        (["train=false", "ckpt_path=a.ckpt"], "leave out train=false"),
        (["ckpt_path=a.ckpt"], "leave out ckpt_path=a.ckpt"),
        (["trainer=ddp_sim"], r"measures in one process, not in 2: add trainer\.devices=1"),
        (["model=plain", "monitor=val/loss"], r"needs a train_smarter\.Model and a train_smarter\.Data"),
    ],
)
def test_what_cannot_be_measured_is_one_line(compose: Compose, folder: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_find(compose(*SMALL, *words, "find=lr"), folder, None)


def test_a_past_run_is_not_resumed(compose: Compose, folder: Path) -> None:
    cfg = compose(*SMALL, "find=batch_size")
    OmegaConf.update(cfg, "resume", "/logs/a run")
    with pytest.raises(UserError, match="type train rerun='/logs/a run' find=batch_size"):
        run_find(cfg, folder, None)
