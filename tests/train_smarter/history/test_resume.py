import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from omegaconf import DictConfig, OmegaConf

from train_smarter.commands import evaluate
from train_smarter.commands.train import TRAINING_DONE, _report_already_done, _resolve_config, run_train
from train_smarter.errors import UserError
from train_smarter.history import resume, saved_config
from train_smarter.run import files, record
from train_smarter.run.files import read_json

pytestmark = pytest.mark.results

Compose = Callable[..., DictConfig]
Start = Callable[..., Any]
Equal = Callable[[Any, Any], bool]

# All that draws random numbers or keeps a state of its own. 17 steps an epoch.
FULL = [
    "trainer=cpu",
    "trainer.max_epochs=4",
    "model.dropout=0.3",
    "model.hidden=16",
    "data.batch_size=64",
    "data.augment.rotation.degrees=10",
    "data.augment.flip.p=0.5",
    "data.augment.trivial_augment.p=1",
    "data.augment.erase.p=0.25",
    "data.augment.mixup.alpha=0.4",
    "data.augment.cutmix.alpha=1",
    "callbacks.resume_checkpoint.every_n_steps=2",
    "callbacks.early_stopping.patience=2",
    "callbacks.progress=null",
    "callbacks.summary=null",
    "callbacks.histograms=null",
    "callbacks.prediction_samples=null",
]


@pytest.fixture
def start(compose: Compose, tmp_path: Path) -> Start:
    """Starts a run in a folder, or goes on with it, as the command would."""

    def started(name: str, *overrides: str, again: bool = False) -> Any:
        folder = tmp_path / name
        words = [*saved_config.past_overrides(folder), *(["resume=x"] if again else []), *overrides]
        cfg = compose(*words, f"paths.run={folder}")
        if again:
            cfg.resume = str(folder)
        else:
            record.save_hydra_config(cfg, folder, overrides)
        return run_train(cfg)

    return started


class Kill(Callback):
    """Ends the process after a step, as far as a test can."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise ConnectionAbortedError


def killed(start: Start, monkeypatch: pytest.MonkeyPatch, name: str, *overrides: str, step: int, again: bool) -> None:
    """A run that ends with a step; what it would have noted at its end, it has not."""
    import train_smarter.config.build as building

    real = building.build
    monkeypatch.setattr(building, "build", lambda cfg, *extra: real(cfg, *extra, Kill(step)))
    with pytest.raises(ConnectionAbortedError):
        start(name, *overrides, again=again)
    monkeypatch.setattr(building, "build", real)


def state(folder: Path) -> dict[str, Any]:
    """Weights, the optimizer's and the schedules' state at the end of a run."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {name: content[name] for name in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """TensorBoard's scalars, as it shows them: what a later start takes back is gone."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


VARIANTS = {
    "cosine": ["scheduler=cosine", "scheduler.warmup=5", "trainer.check_val_every_n_epoch=2"],
    "plateau": ["scheduler=plateau", "scheduler.torch_scheduler.patience=0", "optimizer=sgd", "optimizer.lr=0.3"],
    "accumulated": ["trainer.accumulate_grad_batches=2", "trainer.val_check_interval=0.5", "scheduler=step"],
    "one batch an epoch": ["trainer.limit_train_batches=1", "trainer.max_epochs=60", "scheduler=onecycle"],
}


@pytest.mark.parametrize(
    ("variant", "kills"),
    [
        ("cosine", (8, 35)),  # within an epoch, and at its first batch
        # Before the first checkpoint as well, twice at the same step, and at an epoch's last batch.
        *(pytest.param(name, (2, 8, 8, 16, 17, 18, 30, 33, 34, 35, 50), marks=pytest.mark.slow) for name in VARIANTS),
    ],
)
def test_a_run_killed_anywhere_ends_where_one_that_never_stopped_does(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, kills: tuple[int, ...], equal: Equal
) -> None:
    words = [*FULL, *VARIANTS[variant]]
    best = start("whole", *words)
    last = state(tmp_path / "whole")["global_step"]
    for number, step in enumerate(step for step in kills if step < last):
        killed(start, monkeypatch, "broken", *(words if not number else []), step=step, again=number > 0)
    assert start("broken", again=True) == best
    assert equal(state(tmp_path / "broken"), state(tmp_path / "whole"))
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    assert curves(tmp_path / "broken") == curves(tmp_path / "whole")
    assert (tmp_path / "broken" / "layers.csv").read_text() == (tmp_path / "whole" / "layers.csv").read_text()
    results = [read_json(tmp_path / name / "results.json") for name in ("broken", "whole")]
    assert results[0]["confusion"] == results[1]["confusion"]
    assert results[0]["best_epoch"] == results[1]["best_epoch"]


TASKS = {
    "regression": ["data=numbers", "model=linear"],
    "multilabel": ["data=tags", "model=linear"],
    "segmentation": ["data=blobs", "model=unet_tiny", "data.augment.flip.p=0.5"],
    "language_model": ["data=letters", "model=gru"],
    "reconstruction": ["task=reconstruction", "task.output_per=null", "data=blobs", "model=unet_tiny"],
}
QUIET = [f"callbacks.{name}=null" for name in ("progress", "summary", "histograms", "prediction_samples")]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_killed_run_of_every_task_ends_where_one_that_never_stopped_does(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, equal: Equal
) -> None:
    words = [*TASKS[task], *QUIET, "trainer=cpu", "trainer.max_epochs=3", "data.batch_size=8", "scheduler=cosine"]
    words += ["callbacks.resume_checkpoint.every_n_steps=2"]
    best = start("whole", *words)
    steps = state(tmp_path / "whole")["global_step"]
    for number, step in enumerate((3, steps // 2)):  # within the first epoch, and in the middle
        killed(start, monkeypatch, "broken", *(words if not number else []), step=step, again=number > 0)
    assert start("broken", again=True) == best
    assert equal(state(tmp_path / "broken"), state(tmp_path / "whole"))
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    results = [read_json(tmp_path / name / "results.json") for name in ("broken", "whole")]
    tested = [{name: value for name, value in each.items() if "/" in name} for each in results]
    assert tested[0] == tested[1]


# ---- what else becomes of a run that is gone back to

SHORT = ["model=mlp", "trainer=cpu", "trainer.max_epochs=2", "data.batch_size=128", "logger=none"]
SHORT += [f"callbacks.{name}=null" for name in ("progress", "summary")]


def noted(folder: Path, **changed: Any) -> None:
    files.write_json(folder / "record.json", read_json(folder / "record.json") | changed)


def test_a_finished_run_says_so_and_stays_as_it_is(
    start: Start, past_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = read_json(past_run / "results.json")["best_value"]
    before = {path: path.stat().st_mtime_ns for path in past_run.rglob("*") if path.name != ".lock"}
    capsys.readouterr()
    assert start("run", again=True) == best
    told = capsys.readouterr().out
    assert f"run is done: val/accuracy {best} after 2 epochs; for more, type\ntrain resume=" in told
    assert "trainer.max_epochs=12" in told
    assert {path: path.stat().st_mtime_ns for path in past_run.rglob("*") if path.name != ".lock"} == before


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"trainer.max_epochs": 9, "trainer.max_time": "00:00:00:02"}, "trainer.max_time=00:00:00:04"),
        ({"trainer.max_epochs": 9}, "callbacks.early_stopping.patience=10"),
    ],
)
def test_a_finished_run_is_told_to_raise_the_limit_that_ended_it(
    past_run: Path, setting: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """After two epochs."""
    cfg = OmegaConf.load(past_run / "config.yaml")
    for key, value in {**setting, "callbacks.early_stopping": {"patience": 5}}.items():
        OmegaConf.update(cfg, key, value)
    capsys.readouterr()
    _report_already_done(cfg, past_run)  # type: ignore[arg-type]
    line = capsys.readouterr().out.rpartition("for more, type")[2]
    assert told in line
    assert "max_epochs" not in line


def test_a_run_that_its_steps_ended_is_told_how_to_go_on_and_does(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start("a", *SHORT, "trainer.max_steps=2")
    start("a", again=True)
    told = capsys.readouterr().out
    assert "a is done: val/accuracy None after 1 epochs" in told
    assert "trainer.max_steps=4" in told
    assert "trainer.max_epochs" not in told.rpartition("for more, type")[2]
    start("a", "trainer.max_steps=4", again=True)
    assert torch.load(tmp_path / "a" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4


def test_a_finished_run_goes_on_for_more_epochs(start: Start, tmp_path: Path, equal: Equal) -> None:
    start("a", *SHORT)
    start("a", "trainer.max_epochs=4", again=True)
    start("b", *SHORT, "trainer.max_epochs=4")
    assert equal(state(tmp_path / "a"), state(tmp_path / "b"))
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert read_json(tmp_path / "a" / "record.json")["status"] == "done"
    assert saved_config.load_saved_config(tmp_path / "a").trainer.max_epochs == 4


def test_every_process_of_a_finished_run_trains_on_for_more_epochs(
    compose: Compose, past_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that finds training done stops, and the first one waits for it for ever."""
    monkeypatch.setenv(TRAINING_DONE, "")  # so that it is restored
    monkeypatch.delenv(TRAINING_DONE)
    words = [*saved_config.past_overrides(past_run), "resume=x", "trainer.max_epochs=4", f"paths.run={past_run}"]
    for rank in (0, 1):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        cfg = compose(*words)
        cfg.resume = str(past_run)
        _, back = _resolve_config(cfg, past_run)
        assert back is not None
        assert (back.done, back.training_done, back.epoch) == (False, False, 2), f"process {rank}"
        if rank == 0:
            noted(past_run, status="running")
            resume.prepare(back, past_run)  # saves the config, to which the other processes see no change


def test_a_run_that_was_killed_while_it_was_evaluated_is_evaluated(start: Start, tmp_path: Path, equal: Equal) -> None:
    start("a", *SHORT, "trainer.max_epochs=9", "callbacks.early_stopping.patience=1", "optimizer.lr=1e-9")
    first, weights = read_json(tmp_path / "a" / "results.json"), state(tmp_path / "a")
    (tmp_path / "a" / "results.json").unlink()
    noted(tmp_path / "a", status="interrupted")
    start("a", again=True)
    again = read_json(tmp_path / "a" / "results.json")
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in first.items() if k != "seconds"}
    assert again["epochs"] == 2, "early stopping had ended it before its ninth epoch"
    assert equal(state(tmp_path / "a"), weights)


def test_a_run_without_a_checkpoint_starts_again_in_its_folder(start: Start, past_run: Path, equal: Equal) -> None:
    weights, written = state(past_run), rows(past_run)
    for file in (past_run / "checkpoints").iterdir():
        file.unlink()
    noted(past_run, status="failed")
    start("run", again=True)
    assert equal(state(past_run), weights)
    assert rows(past_run) == written


def test_a_job_whose_turn_had_not_come_starts(start: Start, tmp_path: Path) -> None:
    start("a", *SHORT, again=True)
    assert read_json(tmp_path / "a" / "record.json")["status"] == "done"
    assert saved_config.load_saved_config(tmp_path / "a").trainer.max_epochs == 2


def test_a_run_without_a_seed_goes_on_with_the_one_that_it_took(start: Start, tmp_path: Path) -> None:
    start("a", *SHORT, "seed=null")
    seed = read_json(tmp_path / "a" / "record.json")["seed"]
    (tmp_path / "a").rename(tmp_path / "b")
    start("b", "trainer.max_epochs=3", again=True)
    assert read_json(tmp_path / "b" / "record.json")["seed"] == seed


@pytest.fixture
def broken(start: Start, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A run that ended in its third epoch, and the attempt to go on with it."""
    words = [*SHORT, "model.dropout=0.3", "trainer.max_epochs=4", "scheduler=cosine"]
    killed(start, monkeypatch, "a", *words, step=25, again=False)  # 9 steps an epoch
    return lambda *overrides: start("a", *overrides, again=True)


def test_other_settings_are_refused_with_the_list_of_them(broken: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        broken("model.dropout=0.1", "optimizer=sgd", "data.eval_batch_size=7", "tags=[new]")
    told = str(refused.value).splitlines()
    assert "cannot go on with other settings than it began with:" in told[0]
    assert "  model.dropout: 0.1 instead of 0.3" in told
    assert "  optimizer._target_: torch.optim.SGD instead of torch.optim.Adam" in told
    assert not any("eval_batch_size" in line or "tags" in line for line in told)
    assert "train rerun=a" in told[-1]
    assert not (tmp_path / "a" / ".hydra_2").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trainer.max_epochs=9"], "trainer.max_epochs: 9 instead of 4\nIts schedule is laid out over the whole run"),
        (["seed=2"], "seed: 2 instead of 1"),
        (["monitor=val/f1"], "monitor: val/f1 instead of val/accuracy"),
        (["task.label_smoothing=0.1"], "task.label_smoothing: 0.1 instead of 0.0"),
        (["trainer.devices=2"], "trainer.devices: 2 instead of 1"),
        (["scheduler=none"], "scheduler"),
    ],
)
def test_what_would_break_the_state_is_refused(broken: Callable[..., None], words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        broken(*words)


def test_fewer_epochs_than_are_done_are_refused(start: Start, past_run: Path) -> None:
    noted(past_run, status="failed")
    with pytest.raises(UserError, match=r"trainer\.max_epochs=1, but 2 epochs are done: give more, or leave it out"):
        start("run", "trainer.max_epochs=1", again=True)


def test_a_run_that_still_runs_is_left_alone(start: Start, past_run: Path) -> None:
    noted(past_run, status="running")  # in this very process
    with pytest.raises(UserError, match=r"is still running, in process \d+: stop it first \(Ctrl-C saves it\)"):
        start("run", again=True)


def test_a_damaged_checkpoint_is_named(start: Start, past_run: Path) -> None:
    noted(past_run, status="failed")
    (past_run / "checkpoints" / "last.ckpt").write_bytes(b"PK")
    with pytest.raises(
        UserError, match=r"last\.ckpt cannot be used: it is cut off.*train rerun=.*ckpt_path=.*best\.ckpt"
    ):
        start("run", again=True)


def test_a_run_is_done_again_with_its_own_config_and_overrides_on_top(
    compose: Compose, start: Start, tmp_path: Path
) -> None:
    start("a", *SHORT, "data.augment.crop.padding=1")
    kept = tmp_path / "a" / ".hydra" / "config.yaml"
    kept.write_text(kept.read_text().replace("widths:\n  - 128", "widths:\n  - 16"))
    cfg = compose(*saved_config.past_overrides(tmp_path / "a"), "seed=2", f"paths.run={tmp_path}/b")
    record.save_hydra_config(cfg, tmp_path / "b", [])  # as Hydra keeps it
    cfg.rerun = str(tmp_path / "a")
    run_train(cfg)
    again = saved_config.load_saved_config(tmp_path / "b")
    assert (again.seed, again.model.widths, again.trainer.max_epochs) == (2, [16], 2)
    assert state(tmp_path / "b")["state_dict"]["layers.1.weight"].shape[0] == 16


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiling_leaves_no_trace_in_a_run(start: Start, compose: Compose, tmp_path: Path) -> None:
    for name, first, then in (("a", "default", "null"), ("b", "null", "default")):
        start(name, *SHORT, "trainer.max_epochs=1", f"model.compile={first}")
        start(name, f"model.compile={then}", "trainer.max_epochs=2", again=True)
        folder = tmp_path / name
        for kept in ("best", "last"):
            names = torch.load(folder / "checkpoints" / f"{kept}.ckpt", weights_only=True)["state_dict"]
            assert not any("_orig_mod" in weight for weight in names)
        for compiled in ("default", "null"):
            words = [
                *saved_config.past_overrides(folder),
                f"run={folder}",
                "checkpoint=best",
                f"model.compile={compiled}",
            ]
            evaluate.run_evaluate(compose(*words, f"paths.run={folder}/evaluate", verb="evaluate"))
            again = read_json(folder / "evaluate" / "results.json")
            assert again["confusion"] == read_json(folder / "results.json")["confusion"]
