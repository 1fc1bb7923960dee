import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from train_smarter import paths
from train_smarter.commands import report
from train_smarter.errors import UserError
from train_smarter.history.find import find
from train_smarter.report import runs
from train_smarter.run.files import write_json

Compose = Callable[..., DictConfig]
Make = Callable[..., Path]
Shown = Callable[..., list[list[str]]]

NOTE = {
    "status": "done",
    "start": "2026-03-01T08:22:02+00:00",
    "end": "2026-03-01T08:24:07+00:00",
    "command": "train model=mlp",
    "overrides": ["model=mlp"],
    "seed": 1,
    "commit": "ac5586dfaf104cf95a1feef568f646680346036e",
    "diff": "",
    "packages": {"python": "3.11.7", "torch": "2.15.0"},
    "hardware": {"cores": 2, "gpus": []},
    "host": "desk",
    "monitor": "val/accuracy",
    "mode": "max",
}
SCORES = ("loss", "accuracy", "precision", "recall", "f1")
RESULTS = {
    "monitor": "val/accuracy",
    "best_value": 0.97486,
    "best_epoch": 4,
    "epochs": 7,
    **{f"{split}/{name}": 0.5 for split in ("train", "val", "test") for name in SCORES},
    "test/accuracy": 0.9612,
    "confusion": {"test": [[1, 0], [0, 1]]},
    "seconds": 12.3,
    "train_epoch_seconds_median": 0.5,
}
CONFIG = {
    "seed": 1,
    "data": {"_target_": "sample_project.data.digits.Digits", "size": 28, "shape": [1, "${..size}"], "split_seed": 0},
    "model": {"_target_": "sample_project.model.mlp.MLP", "shape": "${data.shape}", "dropout": 0.2},
    "scheduler": None,
    "paths": {"run": "${hydra:runtime.output_dir}"},
}
FILES = ("metrics.csv", "preprocess.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt")


@pytest.fixture(autouse=True)
def two_hours_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "EAST-2")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """A run's folder under tmp_path/train, with all that a finished run leaves but what the arguments say."""

    def make(
        name: str,
        *,
        note: dict[str, Any] | None = None,
        results: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        choices: dict[str, str] | None = None,
        without: tuple[str, ...] = (),
    ) -> Path:
        folder = tmp_path / "train" / name
        (folder / ".hydra").mkdir(parents=True)
        (folder / "checkpoints").mkdir()
        cfg = OmegaConf.create(CONFIG | (config or {}))
        OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
        cfg.paths.run = str(folder)
        OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
        chosen = {"hydra": "default", "model": "mlp", "data": "digits"} | (choices or {})
        OmegaConf.save({"hydra": {"runtime": {"choices": chosen}}}, folder / ".hydra" / "hydra.yaml")
        write_json(folder / "record.json", NOTE | (note or {}))
        write_json(folder / "results.json", RESULTS | (results or {}))
        for file in FILES:
            (folder / file).touch()
        for file in without:
            (folder / file).unlink()
        return folder

    return make


@pytest.fixture
def job(made: Make) -> Make:
    """The same, as a job of the multirun `grid`."""

    def make(name: str, **kwargs: Any) -> Path:
        folder = made(f"multiruns/grid/{name}", **kwargs)
        (folder.parent / "multirun.yaml").touch()
        return folder

    return make


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here nothing but the text is looked at: a page is not drawn."""
    monkeypatch.setattr(
        "train_smarter.report.page.write_page", lambda folder, target=None: target or folder / "report.html"
    )


@pytest.fixture
def shown(compose: Compose, capsys: pytest.CaptureFixture[str]) -> Shown:
    """The lines that `report` prints, each as its cells; without the last two, that tell where the page is."""

    def show(*words: str) -> list[list[str]]:
        report.run_report(compose(*report.rewrite_argv(words), verb="report"))
        lines, _, _ = capsys.readouterr().out.partition("\n\npage: ")
        return [line.split("  ") for line in _single(lines)]

    return show


def _single(text: str) -> list[str]:
    """Lines with two spaces between cells, however wide the columns."""
    return ["  ".join(part.strip() for part in line.split("  ") if part.strip()) for line in text.splitlines()]


# ---- the list


def test_a_run_is_a_row_with_its_local_time(made: Make, shown: Shown) -> None:
    made("runs/one")
    assert shown() == [
        ["time", "data", "model", "status", "best", "test/accuracy", "took", "name"],
        ["2026-03-01 10:22", "digits", "mlp", "done", "val/accuracy 0.9749", "0.9612", "12 s", "one"],
    ]


def test_the_newest_comes_first_and_the_jobs_of_multiruns_are_among_them(made: Make, job: Make, shown: Shown) -> None:
    made("runs/a", note={"start": "2026-03-01T08:00:00+00:00"})
    made("runs/b", note={"start": "2026-03-01T10:00:00+00:00"})
    for name in ("9", "10"):
        job(name, note={"start": "2026-03-01T09:00:00+00:00"})
    assert [row[-1] for row in shown()[1:]] == ["b", "grid/10", "grid/9", "a"]


def test_a_longer_list_is_cut_and_says_how_to_see_all(made: Make, shown: Shown) -> None:
    for hour in range(3):
        made(f"runs/{hour}", note={"start": f"2026-03-01T0{hour}:00:00+00:00"})
    told = "2 of 3 runs; for all of them type report limit=3"
    assert [row[-1] for row in shown("limit=2")[1:]] == ["2", "1", "", told]
    assert len(shown("limit=3")) == 4


def test_a_run_that_was_not_evaluated_shows_its_best_epoch_so_far(made: Make, shown: Shown) -> None:
    folder = made("runs/one", note={"status": "interrupted"}, without=("results.json",))
    (folder / "metrics.csv").write_text("epoch,val/accuracy\n0,0.25\n1,0.75\n2,0.5\n")
    # 08:22:02 to 08:24:07 are 2 min 5 s.
    assert shown()[1][3:7] == ["interrupted", "val/accuracy 0.7500", "-", "2 min 05 s"]
    assert dict(runs.run_facts(runs.run_sections(folder)))["best"] == "val/accuracy 0.7500 in epoch 1, counted from 0"


def test_a_running_run_has_taken_the_time_since_its_start(
    made: Make, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train_smarter.run.record.status", lambda _: "running")
    monkeypatch.setattr("train_smarter.run.record.now", lambda: "2026-03-01T09:27:32+00:00")
    made("runs/one", note={"end": None}, without=("results.json",))
    assert shown()[1][3:7] == ["running", "-", "-", "1 h 05 min"]  # 65 min 30 s since 08:22:02


def test_how_long_a_run_took_that_paused_is_not_guessed(made: Make, shown: Shown) -> None:
    made("runs/one", note={"status": "failed", "resumed": [{}]}, without=("results.json",))
    assert shown()[1][3:7] == ["failed", "-", "-", "-"]


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("record.json", b"{", "record.json is not readable JSON"),
        ("record.json", b'{"start": "\xff"}', "record.json is not readable JSON"),
        ("record.json", b"[]", "record.json holds no names and values"),
        ("record.json", b'{"overrides": 1}', "TypeError"),
        ("results.json", b'{"best_value": "high"}', "'high' is no number"),
        (".hydra/hydra.yaml", b"a: [", "hydra.yaml is not readable YAML"),
        (".hydra/hydra.yaml", b"a: 1", "KeyError('hydra')"),
    ],
)
def test_a_damaged_folder_costs_a_list_nothing_but_its_own_row(
    made: Make, shown: Shown, file: str, content: bytes, why: str
) -> None:
    made("runs/sound", note={"start": "2099-01-01T00:00:00+00:00"})
    (made("runs/broken") / file).write_bytes(content)
    _, sound, broken, told = shown()
    assert (sound[3], sound[-1]) == ("done", "sound")
    assert (broken[3], broken[-1]) == ("damaged", "broken")
    assert told[0].startswith("damaged: ")
    assert why in told[0]


def test_without_a_run_it_says_what_to_type(shown: Shown) -> None:
    with pytest.raises(UserError, match=r"there is no run under .*train yet: type train first"):
        shown()


# ---- one run


def test_one_run_tells_what_it_was_and_how_it_ended(made: Make, shown: Shown) -> None:
    diff = "+ a\n- b\n"
    folder = made("runs/one", note={"diff": diff}, results={"val/loss": 0.25})
    lines = shown("run=one")
    facts = {line[0]: line[1:] for line in lines if len(line) == 2}
    assert facts == {
        "run": ["one"],
        "folder": [str(folder)],
        "command": ["train model=mlp"],
        "data, model": ["digits, mlp"],
        "status": ["done"],
        "start": ["2026-03-01 10:22"],
        "end": ["2026-03-01 10:24"],
        "took": ["12 s"],
        "epochs": ["7"],
        "best": ["val/accuracy 0.9749 in epoch 4, counted from 0"],
        "checkpoints": ["best, last"],
        "seed": ["1"],
        "commit": [f"ac5586d, with uncommitted changes: 2 lines of diff, {zlib.crc32(diff.encode()):08x}"],
        "packages": ["python 3.11.7, torch 2.15.0"],
        "hardware": ["cores 2, gpus none"],
    }
    assert ["loss", "0.5000", "0.2500", "0.5000"] in lines  # a column for each split
    assert ["missing:"] not in lines


@pytest.mark.parametrize(
    ("status", "without", "advice"),
    [
        ("interrupted", (), "{} interrupted: type train resume={}, or evaluate run={} for what it has learned"),
        ("killed", ("checkpoints/best.ckpt",), "{} killed: type train resume={}"),
        ("failed", FILES, "{} failed: type train rerun={}"),
        ("done", (), "{} done: type evaluate run={} for what it has learned"),
        ("done", ("checkpoints/best.ckpt",), "{} done: type train rerun={}"),
        ("running", FILES, "not yet: it is running"),
    ],
)
def test_a_folder_that_lacks_something_is_shown_with_what_to_type(
    made: Make, shown: Shown, monkeypatch: pytest.MonkeyPatch, status: str, without: tuple[str, ...], advice: str
) -> None:
    monkeypatch.setattr("train_smarter.run.record.status", lambda _: status)
    folder = made("runs/one", without=(*without, "results.json"))
    lines = shown("run=one")
    missing = {line[0]: line[1] for line in lines[lines.index(["missing:"]) + 1 :]}
    assert set(missing) == {*without, "results.json"}
    assert missing["results.json"] == advice.format("not evaluated, and its status is", folder, folder)


def test_a_run_that_ended_before_it_had_a_record_is_shown(made: Make, shown: Shown) -> None:
    made("runs/one", without=(*FILES, "record.json", "results.json"))
    lines = shown("run=last")
    assert ["status", "unknown"] in lines
    assert ["record.json", "when, how and on what it ran is not known: it ended before it began"] in lines
    assert len(lines[lines.index(["missing:"]) + 1 :]) == 6
    assert [line[0] for line in lines[: lines.index(["missing:"])]] == ["run", "folder", "data, model", "status"]


def test_results_without_metrics_lead_to_evaluate(made: Make, shown: Shown) -> None:
    folder = made("runs/one")
    write_json(folder / "results.json", {name: value for name, value in RESULTS.items() if "/" not in name})
    told = f"no metrics of train, val and test, as with test=false; type evaluate run={folder}"
    assert shown("run=one")[-1] == ["results.json", told]


@pytest.mark.parametrize(("status", "searched"), [("pruned", False), ("pruned", True), ("done", True)])
def test_a_trial_that_was_not_tested_lacks_nothing(made: Make, shown: Shown, status: str, searched: bool) -> None:
    folder = made("multiruns/study/3", note={"status": status})
    target = "train_smarter.search.sweeper.OptunaSweeper" if searched else "hydra._internal.BasicSweeper"
    OmegaConf.save({"hydra": {"sweeper": {"_target_": target}}}, folder.parent / "multirun.yaml")
    write_json(folder / "results.json", {name: value for name, value in RESULTS.items() if "/" not in name})
    lines = shown("run=study/3")
    assert ["missing:"] not in lines
    told = "pruned trials and trials of a search are not"
    assert ["not tested", f"{told}; type evaluate run={folder}"] in lines
    write_json(folder / "evaluate" / "results.json", {"test/accuracy": 0.5})
    assert ["not tested", f"{told}; evaluate/results.json holds what evaluate found"] in shown("run=study/3")


def test_a_job_of_a_grid_without_metrics_still_leads_to_evaluate(job: Make, shown: Shown) -> None:
    folder = job("0")
    write_json(folder / "results.json", {name: value for name, value in RESULTS.items() if "/" not in name})
    assert shown(f"run={folder}")[-1][0] == "results.json"


def test_a_pruned_run_that_lacks_something_is_done_again(made: Make, shown: Shown) -> None:
    folder = made("runs/one", note={"status": "pruned"}, without=("checkpoints/best.ckpt", "results.json"))
    lines = shown("run=one")
    told = f"not evaluated, and its status is pruned: type train rerun={folder}"
    assert ["results.json", told] in lines


def test_a_failed_run_tells_why(made: Make, shown: Shown) -> None:
    note = {"status": "failed", "error": "RuntimeError: CUDA out of memory\x1b\nTried to"}
    made("runs/one", note=note, without=("results.json",))
    assert ["status", r"failed: RuntimeError: CUDA out of memory\x1b"] in shown("run=one")
    made("runs/two", note={"status": "failed", "error": None, "resumed": [{}]})
    assert ["status", "failed, resumed 1 x"] in shown("run=two")


def test_a_damaged_run_is_answered_with_its_file(made: Make, shown: Shown) -> None:
    folder = made("runs/one")
    (folder / "results.json").write_text('{"test/loss": null, "test/accuracy": 0.5}')
    assert ["missing:"] not in shown("run=one")  # what can be shown is
    (folder / "results.json").write_text('{"test/f1": [1]}')
    with pytest.raises(UserError, match=r"one is damaged: TypeError\('\[1\] is no number'\)"):
        shown("run=one")
    (folder / "results.json").write_text("{")
    with pytest.raises(UserError, match=r"results\.json is not readable JSON"):
        shown("run=one")


def test_a_strangers_folder_neither_steers_the_terminal_nor_reads_the_environment(
    made: Make, compose: Compose, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "password")
    secret = {"model": "${oc.env:SECRET}"}
    folder = made("runs/one", note={"command": "train \x1b[2J\nx [red]"}, choices=secret)
    for kept in (folder / ".hydra" / "config.yaml", folder / "config.yaml"):
        OmegaConf.save({"tags": "${oc.env:SECRET}"} | CONFIG, kept)
    other = made("runs/two\x1b", without=("results.json",))
    for words in (["run=one"], ["run=one", f"compare_to={other}"], []):
        report.run_report(compose(*report.rewrite_argv(words), verb="report"))
        out = capsys.readouterr().out
        assert "${oc.env:SECRET}" in out
        assert "password" not in out
        assert "\x1b" not in out
    report.run_report(compose("run=one", verb="report"))
    assert r"train \x1b[2J\nx [red]" in capsys.readouterr().out


def test_choices_that_were_not_kept_are_the_modules(made: Make, shown: Shown) -> None:
    folder = made("runs/one")
    (folder / ".hydra" / "hydra.yaml").unlink()
    assert shown()[1][1:3] == ["digits", "mlp"]


# ---- the page


@pytest.fixture
def told(compose: Compose, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def tell(*words: str) -> str:
        report.run_report(compose(*report.rewrite_argv(words), verb="report"))
        return capsys.readouterr().out

    return tell


def test_one_run_or_multirun_has_its_page_written_and_is_told_where(
    made: Make, job: Make, told: Callable[..., str], tmp_path: Path
) -> None:
    folder, trial = made("runs/one"), job("0")
    assert told("run=one").endswith(f"\n\npage: {folder}/report.html\n")
    assert told("run=grid").endswith(f"\n\npage: {trial.parent}/report.html\n")
    assert told("run=one", f"output={tmp_path}/a, b.html").endswith(f"page: {tmp_path}/a, b.html\n")
    assert told("run=one", f"output={tmp_path}").endswith(f"page: {tmp_path}/report.html\n")


def test_a_page_that_cannot_be_written_costs_the_text_nothing(
    made: Make, compose: Compose, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Path) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr("train_smarter.report.page.write_page", full)
    made("runs/one")
    with pytest.raises(UserError, match="the disk is full"):
        report.run_report(compose("run=one", verb="report"))
    assert "train model=mlp" in capsys.readouterr().out


def test_a_list_a_comparison_and_what_a_program_reads_have_no_page(made: Make, told: Callable[..., str]) -> None:
    made("runs/one")
    made("runs/two")
    for words in ([], ["run=one", "compare_to=two"], ["run=one", "format=json"]):
        assert "page:" not in told(*words)
        with pytest.raises(UserError, match="output=a: a page is written of one run or multirun"):
            told(*words, "output=a")


@pytest.mark.parametrize(
    ("module", "without"),
    [("commands.report", {"torch", "matplotlib", "jinja2", "optuna"}), ("report.page", {"torch", "optuna"})],
)
def test_nothing_heavy_is_imported_before_it_is_needed(module: str, without: set[str]) -> None:
    code = f"import sys, train_smarter.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not without & set(done.stdout.split())


# ---- a multirun


def test_a_multirun_lists_its_jobs_with_the_best_first(job: Make, shown: Shown) -> None:
    job("0", note={"overrides": ["seed=3", "optimizer.lr=0.1"]}, results={"best_value": 0.5})
    job("1", note={"overrides": ["seed=3", "optimizer.lr=0.2", "data.dir=a b"]}, results={"best_value": 0.75})
    job("2", note={"overrides": ["seed=3", "optimizer.lr=0.3"], "status": "failed"}, without=("results.json",))
    job("3", results={"best_value": "high"})
    lines = shown("run=grid")
    assert lines[0] == ["multirun", "grid"]
    assert lines[2] == ["all jobs", "seed=3"]
    assert [[row[0], row[1], row[2], row[-1]] for row in lines[4:8]] == [
        ["job", "status", "best", "overrides"],
        ["1", "done", "val/accuracy 0.7500", "optimizer.lr=0.2 'data.dir=a b'"],
        ["0", "done", "val/accuracy 0.5000", "optimizer.lr=0.1"],
        ["2", "failed", "-", "optimizer.lr=0.3"],
    ]
    assert lines[8][:2] == ["3", "damaged"]


def test_the_best_job_is_the_one_with_the_least_loss(job: Make, shown: Shown) -> None:
    for name, best in {"0": 0.5, "1": float("nan"), "2": 0.25}.items():
        job(name, note={"mode": "min"}, results={"monitor": "val/loss", "best_value": best})
    assert [row[0] for row in shown("run=last")[5:]] == ["2", "0", "1"]


def test_the_name_in_a_list_is_the_one_that_run_takes(job: Make, shown: Shown, tmp_path: Path) -> None:
    folder = job("0")
    assert find(shown()[1][-1], tmp_path) == folder


def test_failed_jobs_tell_why_in_a_line_for_each_reason(job: Make, shown: Shown) -> None:
    failed = {"status": "failed", "error": "UserError: no such folder\n  more"}
    for name in ("0", "2", "10"):
        job(name, note=failed, results={"best_value": None})
    job("3", note=failed | {"error": "ValueError: "}, results={"best_value": None})
    job("4", note=failed | {"error": ""}, results={"best_value": None})
    job("5", note=failed | {"status": "done"})
    assert shown("run=grid")[-2:] == [["failed: 0, 2, 10: UserError: no such folder"], ["failed: 3: ValueError:"]]


def test_a_search_lists_its_trials(job: Make, shown: Shown) -> None:
    for number, (status, best) in enumerate([("pruned", 0.5), ("done", 0.75), ("failed", None)]):
        overrides = ["search=digits_cnn", f"optimizer.lr=0.01{number}"]
        job(str(number), note={"overrides": overrides, "status": status}, results={"best_value": best})
    lines = shown("run=grid")
    assert lines[2] == ["all jobs", "search=digits_cnn"]
    assert [[*row[:3], row[-1]] for row in lines[5:]] == [
        ["1", "done", "val/accuracy 0.7500", "optimizer.lr=0.011"],
        ["0", "pruned", "val/accuracy 0.5000", "optimizer.lr=0.010"],
        ["2", "failed", "-", "optimizer.lr=0.012"],
    ]


# ---- its means over seeds and folds


@pytest.fixture
def seeds(job: Make) -> Callable[..., None]:
    """A job for each of the given best values, with a seed of its own, its test accuracy lower by a quarter."""
    number = iter(range(100))

    def make(*values: float, words: Sequence[str] = (), kind: str = "seed", **note: Any) -> None:
        for place, best in enumerate(values):
            words_of = ["model=mlp", f"{kind}={place}", *words]
            job(
                str(next(number)),
                note={"overrides": words_of, **note},
                results={"best_value": best, "test/accuracy": best - 0.25},
            )

    return make


def means(lines: list[list[str]]) -> list[list[str]]:
    """The rows of the table of means."""
    return _section(lines, "means over seeds and folds ± sample standard deviation")[1:]


def test_jobs_that_differ_by_their_seed_have_a_mean(seeds: Callable[..., None], shown: Shown) -> None:
    seeds(0.5, 0.75, 0.625)
    lines = shown("run=grid")
    head = lines.index(["means over seeds and folds ± sample standard deviation"])
    assert lines[head - 1] == [""]
    # The squares of -0.125, 0.125 and 0 add up to 0.03125; halved, the root of it is 0.125.
    assert lines[head + 1 :] == [
        ["jobs", "best", "min", "max", "test/accuracy", "overrides"],
        ["3", "val/accuracy 0.6250 ± 0.1250", "0.5000", "0.7500", "0.3750 ± 0.1250", "all"],
    ]


def test_groups_have_the_overrides_without_seed_and_fold_and_the_best_comes_first(
    seeds: Callable[..., None], shown: Shown
) -> None:
    seeds(0.5, 0.5, words=["optimizer.lr=0.1"])
    seeds(0.75, 0.75, words=["optimizer.lr=0.2", "data.dir=a b"])
    seeds(1.0, 0.0, words=["optimizer.lr=0.3", "++data.fold=0"], kind="+seed")
    seeds(0.5, 0.75, words=["optimizer.lr=0.3", "seed=7"], kind="data.fold")
    assert [[row[0], row[1].split()[1], row[-1]] for row in means(shown("run=grid"))] == [
        ["2", "0.7500", "optimizer.lr=0.2 'data.dir=a b'"],
        ["4", "0.5625", "optimizer.lr=0.3"],  # (1 + 0 + 0.5 + 0.75) / 4
        ["2", "0.5000", "optimizer.lr=0.1"],
    ]


def test_the_best_group_has_the_least_loss(seeds: Callable[..., None], shown: Shown) -> None:
    for lr, values in {"0.1": (0.5, 0.75), "0.2": (0.25, 0.5), "0.3": (0.75, 0.75)}.items():
        seeds(*values, words=[f"optimizer.lr={lr}"], mode="min")
    assert [row[-1] for row in means(shown("run=grid"))] == ["optimizer.lr=0.2", "optimizer.lr=0.1", "optimizer.lr=0.3"]


def test_only_jobs_that_are_done_or_pruned_count(job: Make, seeds: Callable[..., None], shown: Shown) -> None:
    seeds(0.5, 0.75, float("nan"))
    job("7", note={"overrides": ["model=mlp", "seed=7"], "status": "pruned"}, results={"best_value": 0.625})
    job("8", note={"overrides": ["model=mlp", "seed=8"], "status": "interrupted"}, results={"best_value": 0.0})
    job("9", note={"overrides": ["model=mlp", "seed=9"], "status": "failed"}, results={"best_value": None})
    job("10", results={"best_value": "high"})  # damaged
    ((count, best, *_),) = means(shown("run=grid"))
    assert (count, best) == ("3 of 6", "val/accuracy 0.6250 ± 0.1250")


def test_what_has_one_value_has_no_deviation_and_what_has_none_no_mean(job: Make, shown: Shown) -> None:
    for seed in (1, 2):
        job(f"{seed}", note={"overrides": ["lr=1", f"seed={seed}"]}, results={"test/accuracy": None})
    job("3", note={"overrides": ["lr=2", "seed=1"]}, results={"best_value": 0.5})
    job("4", note={"overrides": ["lr=2", "seed=2"], "status": "failed"})
    job("5", note={"overrides": ["lr=3", "seed=1"]}, results={"best_value": None})
    job("6", note={"overrides": ["lr=3", "seed=2"]}, results={"best_value": None})
    assert means(shown("run=grid")) == [
        ["2", "val/accuracy 0.9749 ± 0.0000", "0.9749", "0.9749", "-", "lr=1"],
        ["1 of 2", "val/accuracy 0.5000", "0.5000", "0.5000", "0.9612", "lr=2"],
    ]


@pytest.mark.parametrize("words", [["optimizer.lr=0.01{}"], ["model=mlp"], ["optimizer.lr=0.01{}", "seed=null"]])
def test_a_search_has_no_groups_of_one_nor_of_trials_that_are_the_same(
    job: Make, compose: Compose, shown: Shown, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    for number in range(3):
        job(str(number), note={"overrides": [word.format(number) for word in words]})
    assert len(shown("run=grid")) == 8  # three lines of the multirun, one without words, three jobs and their head
    report.run_report(compose("run=grid", "format=json", verb="report"))
    assert json.loads(capsys.readouterr().out)["groups"] == []


def test_seeds_that_were_drawn_make_a_mean_too(job: Make, shown: Shown) -> None:
    for seed, best in enumerate((0.5, 0.75)):
        job(str(seed), note={"overrides": ["model=mlp", "seed=null"], "seed": seed}, results={"best_value": best})
    assert [row[:2] for row in means(shown("run=grid"))] == [["2", "val/accuracy 0.6250 ± 0.1768"]]


def test_a_program_reads_the_groups_as_numbers(
    seeds: Callable[..., None], compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds(0.5, 0.75, 0.625, words=["optimizer.lr=0.1"])
    seeds(0.25, words=["optimizer.lr=0.2"])
    report.run_report(compose("run=grid", "format=json", verb="report"))
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert group == {
        "overrides": ["optimizer.lr=0.1"],
        "jobs": ["grid/1", "grid/2", "grid/0"],
        "of": 3,
        "monitor": "val/accuracy",
        "mode": "max",
        "metrics": {"loss": "min", **dict.fromkeys(SCORES[1:], "max")},
        "best": {"mean": 0.625, "std": 0.125, "n": 3, "min": 0.5, "max": 0.75},
        "test/accuracy": {"mean": 0.375, "std": 0.125, "n": 3, "min": 0.25, "max": 0.5},
    }


# ---- two runs


def _section(lines: list[list[str]], title: str) -> list[list[str]]:
    """The rows under a heading."""
    start = [line[0] for line in lines].index(title)
    return lines[start + 1 : lines.index([""], start)] if [""] in lines[start:] else lines[start + 1 :]


def test_two_runs_are_compared_key_by_key_each_at_its_source(made: Make, shown: Shown) -> None:
    size = {"data": {**CONFIG["data"], "size": 32}}  # type: ignore[dict-item]
    dropout = {"model": {**CONFIG["model"], "dropout": "${data.size}"}}  # type: ignore[dict-item]
    made("runs/one", config=size | dropout, choices={"scheduler": "none"})
    elsewhere = {"paths": {"run": "/a", "logs": "/b"}, "rerun": "/c"}
    made("runs/two", config={"scheduler": {"gamma": 0.5}} | elsewhere, choices={"scheduler": "step"})
    assert _section(shown("run=one", "compare_to=two"), "config") == [
        ["data.size", "32", "28"],
        ["model.dropout", "32", "0.2"],  # was written differently; data.shape and model.shape only follow
        ["scheduler", "none", "step"],
        ["scheduler.gamma", "-", "0.5"],
    ]


def test_values_that_were_written_differently_but_are_the_same_are_no_difference(made: Make, shown: Shown) -> None:
    made("runs/one", config={"model": {**CONFIG["model"], "shape": [1, 28]}})  # type: ignore[dict-item]
    made("runs/two")
    assert ["config: no difference"] in shown("run=one", "compare_to=two")


def test_seeds_that_were_drawn_are_compared(made: Make, shown: Shown) -> None:
    made("runs/one", config={"seed": None}, note={"seed": 5})
    made("runs/two", config={"seed": None}, note={"seed": 6})
    assert _section(shown("run=one", "compare_to=two"), "config") == [["seed", "5", "6"]]


def test_metrics_and_environment_are_compared_with_the_difference(made: Make, shown: Shown) -> None:
    made(
        "runs/one",
        results={"best_value": 0.5, "test/f1": 0.25, "epochs": 9, "train_epoch_seconds_median": 1.5},
        note={"diff": "+ a\n"},
    )
    made("runs/two", results={"best_value": 0.75, "val/extra": 0.125}, note={"packages": {"python": "3.13.0"}})
    lines = shown("run=one", "compare_to=two")
    assert [row[0] for row in lines[:3]] == ["time", "run", "compare_to"]
    environment = _section(lines, "environment")
    assert environment.pop(0)[::2] == ["uncommitted", "-"]
    assert environment == [["python", "3.11.7", "3.13.0"], ["torch", "2.15.0", "-"]]
    assert _section(lines, "metrics") == [
        ["best val/accuracy", "0.5000", "0.7500", "-0.2500"],
        ["epochs", "9", "7", "+2"],
        ["train_epoch_seconds_median", "1.5000", "0.5000", "+1.0000"],
        ["test/f1", "0.2500", "0.5000", "-0.2500"],
        ["val/extra", "-", "0.1250", "-"],
    ]


def test_a_comparison_says_what_a_run_lacks(made: Make, shown: Shown) -> None:
    made("runs/one")
    made("runs/two", note={"status": "failed"}, without=("results.json",))
    lines = shown("run=one", "compare_to=two")
    untested = "compare_to: results.json: not evaluated, and its status is failed"
    assert [line for line in lines if line[0].startswith(untested)]


def test_of_a_multirun_the_best_job_is_compared_and_that_is_said(
    made: Make, job: Make, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    made("runs/one")
    job("0", results={"best_value": 0.5})
    job("1", results={"best_value": 0.75})
    report.run_report(compose("run=one", "compare_to=grid", verb="report"))
    out, err = capsys.readouterr()
    assert "grid/1" in out
    assert "its best trial is 1" in err


def test_a_run_is_not_compared_with_itself(made: Make, shown: Shown) -> None:
    folder = made("runs/one")
    with pytest.raises(UserError, match=f"are both {folder}"):
        shown("run=one", "compare_to=last")


# ---- the command


def test_a_program_reads_the_same_as_json(
    made: Make, job: Make, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    made("runs/one", results={"best_value": 0.5})
    made("runs/two", note={"start": "2026-01-01T00:00:00+00:00"}, results={"best_value": 0.75})
    job("0", note={"start": "2025-01-01T00:00:00+00:00"})

    def read(*words: str) -> Any:
        report.run_report(compose("format=json", *words, verb="report"))
        return json.loads(capsys.readouterr().out)

    assert [(run["name"], run["best"]) for run in read()] == [("one", 0.5), ("two", 0.75), ("grid/0", 0.97486)]
    assert read("run=one")["results"]["test/accuracy"] == 0.9612
    assert [run["name"] for run in read("run=grid")["jobs"]] == ["grid/0"]
    pair = {"run": 0.5, "compare_to": 0.75, "difference": -0.25}
    assert read("run=one", "compare_to=two")["metrics"] == {"best val/accuracy": pair}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["last"], "is it a run\\? Type report run=last"),
        (["a b"], "is it a run\\? Type report run='a b'"),
        (["rnu=last"], "report takes run=, compare_to=, limit=, output=, format= and paths.logs=; did you mean 'run'"),
        (["data=digits"], "data=digits: report takes run="),
        (["run="], "run= names no run"),
        (["run=a", "run=b"], "report run=<one> compare_to=<other>"),
        (["-m", "run=a"], "without -m"),
        (["compare_to=last"], "compare_to=last needs a run to compare: add run=last"),
        (["limit=0"], "limit=0: give a whole number of at least 1"),
        (["limit=null"], "limit=null: give a whole number of at least 1"),
        (["limit=true"], "limit=true: give a whole number of at least 1"),
        (["format=jsn"], "format=jsn: give table or json; did you mean 'json'"),
        (["run=a,b[{"], r"run=a,b\[\{ is no run folder"),
    ],
)
def test_a_mistake_is_answered(shown: Shown, words: list[str], answer: str) -> None:
    with pytest.raises(UserError, match=answer):
        shown(*words)


def test_names_are_taken_as_they_stand(made: Make, shown: Shown) -> None:
    names = ["a, b=[c] {d}", "it's ${seed} 'q' \\"]
    for name in names:
        made(f"runs/{name}")
    assert shown(f"run={names[0]}")[0] == ["run", names[0]]
    assert [row[-1] for row in shown(f"run={names[0]}", f"compare_to={names[1]}")[1:3]] == names


def test_it_answers_without_torch_and_leaves_no_trace(made: Make, command: Callable[..., Any], tmp_path: Path) -> None:
    made("runs/one")
    before = sorted(tmp_path.rglob("*"))
    done = command("report", "hydra.verbose=true", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr
    assert "val/accuracy 0.9749" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "rich.console" in imported
    assert not imported & {"torch", "lightning", "numpy"}
    assert sorted(tmp_path.rglob("*")) == before
    assert not [*paths.CONF.glob("*.log"), *paths.CONF.glob(".hydra*")]


# ---- what was found, and luck


def diagnosed(folder: Path, *, examples: int, found: Sequence[str] = ()) -> None:
    findings = [{"name": name, "severity": "warning"} for name in found] + [
        {"name": "accuracy_noise", "severity": "note"}
    ]
    write_json(folder / "diagnosis.json", {"findings": findings, "measured": {"val_examples": examples}})


def test_a_multirun_tells_what_was_found_in_each_job_and_which_may_only_have_been_luckier(
    job: Make, shown: Shown
) -> None:
    # the best: sqrt(0.9 * 0.1 / 100) = 0.03
    for name, best in {"0": 0.9, "1": 0.88, "2": 0.85}.items():
        diagnosed(job(name, results={"best_value": best}), examples=100, found=["overfitting"] if name == "1" else [])
    lines = shown("run=grid")
    assert [row[5] for row in lines[4:8]] == ["found", "-", "overfitting", "-"]
    assert lines[8][0].startswith("1 job is within one standard error of the best (0.0300 on 100 validation examples)")


@pytest.mark.parametrize(("examples", "best", "told"), [(100, 0.88, True), (10_000, 0.88, False), (100, 0.8, False)])
def test_two_runs_that_differ_by_less_than_their_standard_error_are_not_told_apart(
    made: Make, shown: Shown, examples: int, best: float, told: bool
) -> None:
    for name, value in {"one": 0.9, "two": best}.items():
        diagnosed(made(f"runs/{name}", results={"best_value": value}), examples=examples)
    lines = [row[0] for row in shown("run=one", "compare_to=two")]
    assert any(line.startswith("the two differ by less than the standard error") for line in lines) is told


def test_luck_is_said_of_accuracies_alone() -> None:
    run = {"best": 0.5, "val_examples": 100, "monitor": "val/accuracy"}
    assert runs.accuracy_noise(run, run) == pytest.approx(0.05)  # sqrt(0.25 / 100)
    assert runs.accuracy_noise(run | {"monitor": "val/loss"}, run | {"monitor": "val/loss"}) is None
    assert runs.accuracy_noise(run, run | {"best": None}) is None
    assert runs.accuracy_noise(run, run | {"val_examples": None}) is None


# ---- runs of several tasks


def test_the_column_of_test_results_is_the_headline_metric_of_the_task(made: Make, shown: Shown) -> None:
    results = {"monitor": "val/rmse", "best_value": 52.5, "test/rmse": 54.25}
    made("runs/one", note={"monitor": "val/rmse", "mode": "min", "metrics": {"rmse": "min"}}, results=results)
    head, row = shown()
    assert head[5] == "test/rmse"
    assert row[4:6] == ["val/rmse 52.5000", "54.2500"]
    made("runs/two", note={"start": "2099-01-01T00:00:00+00:00"})
    head, newest, row = shown()
    assert head[5] == "test"
    assert [line[5] for line in (newest, row)] == ["test/accuracy 0.9612", "test/rmse 54.2500"]


def test_a_run_without_the_headline_metric_shows_a_dash(made: Make, shown: Shown) -> None:
    made("runs/one", note={"metrics": {"rmse": "min"}})
    assert shown()[1][5] == "-"
