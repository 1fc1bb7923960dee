import base64
import html
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from PIL import Image

from train_smarter.errors import UserError
from train_smarter.report import html as report_html
from train_smarter.report import multirun_page, page, run_page
from train_smarter.report.multirun_end import ReportJobs
from train_smarter.run.files import write_json

Make = Callable[..., Path]

HOSTILE = "<script>alert('x')</script>\u202e$_{"
SCORES = ("loss", "accuracy", "precision", "recall", "f1")
NOTE: dict[str, Any] = {
    "status": "done",
    "start": "2026-03-01T08:22:02+00:00",
    "end": "2026-03-01T08:24:07+00:00",
    "command": "train model=mlp",
    "overrides": ["model=mlp"],
    "seed": 1,
    "commit": "ac5586dfaf104cf95a1feef568f646680346036e",
    "packages": {"torch": "2.15.0"},
    "hardware": {"cores": 2},
    "monitor": "val/accuracy",
    "mode": "max",
}
RESULTS: dict[str, Any] = {
    "monitor": "val/accuracy",
    "best_value": 0.875,
    "best_epoch": 1,
    "epochs": 3,
    "parameters": 12345,
    **{f"{split}/{name}": 0.5 for split in ("train", "val", "test") for name in SCORES},
    "test/accuracy": 0.75,
    "confusion": {"train": [[30, 10], [0, 60]], "test": [[3, 1], [0, 2]]},
    "seconds": 12.3,
    "train_epoch_seconds_median": 0.5,
}
METRICS = """epoch,step,seconds,train/loss,train/accuracy,train/f1,val/loss,val/accuracy,val/f1
0,10,1.5,0.9,0.5,0.5,0.8,0.5,0.5
1,20,0.5,0.5,0.75,0.75,0.5,0.875,0.875
2,30,0.5,0.25,0.9,0.9,0.6,0.75,
"""
BINS = [
    {"low": place / 15, "high": (place + 1) / 15, "count": 0, "confidence": None, "accuracy": None}
    for place in range(15)
]
BINS[14] |= {"count": 6, "confidence": 0.95, "accuracy": 0.75}
LAYERS = """epoch,layer,weight_norm,grad_norm,update_ratio,dead_relu_fraction
0,features.0,2.5,0.1,0.001,
0,features.1,,,,0.25
1,features.0,2.6,0.05,0.002,
1,features.1,,,,0.5
"""
FOUND = {
    "findings": [
        {"name": "slow", "severity": "note", "evidence": "12% waiting", "where": "", "advice": []},
        {
            "name": "overfitting",
            "severity": "warning",
            "evidence": "val/loss rose from 0.5 to 0.6",
            "where": "epoch 2",
            "advice": ["model.dropout=0.4", "tags=[a b]"],
        },
    ],
    "measured": {"data_wait": 0.123456},
}


def png(side: int = 2) -> str:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def sample(right: bool, **more: Any) -> dict[str, Any]:
    said = {"split": "test", "true": "cat", "predicted": "cat" if right else "dog", "probability": 0.9375}
    return {**said, "right": right, **more}


@pytest.fixture
def ran(tmp_path: Path) -> Make:
    """A run's folder with all that a page shows, but the files that are given as None."""

    def make(name: str = "runs/one", note: dict[str, Any] | None = None, **files: Any) -> Path:
        folder = tmp_path / "train" / name
        (folder / ".hydra").mkdir(parents=True)
        cfg = {"data": {"_target_": "a.digits.Digits"}, "model": {"_target_": "a.mlp.MLP"}, "trainer": {}}
        OmegaConf.save(OmegaConf.create(cfg), folder / ".hydra" / "config.yaml")
        contents = {
            "record.json": NOTE | (note or {}),
            "results.json": RESULTS,
            "preprocess.json": {"names": ["cat", "dog"]},
            "metrics.csv": METRICS,
            "examples.json": [sample(False, image=png()), sample(True, image=png())],
            "calibration.json": {"val": {"ece": 0.125, "bins": BINS}, "test": {"ece": 0.0625, "bins": BINS}},
            "layers.csv": LAYERS,
            "diagnosis.json": FOUND,
            **{name.replace("_", "."): content for name, content in files.items()},
        }
        for file, content in contents.items():
            if isinstance(content, str):
                (folder / file).write_text(content, encoding="utf8")
            elif content is not None:
                write_json(folder / file, content)
        return folder

    return make


def sections(text: str) -> dict[str, str]:
    """What stands in each section, by its id, as it is read."""
    return {name: readable(body) for name, body in re.findall(r'<section id="(\w+)">(.*?)</section>', text, re.DOTALL)}


def readable(body: str) -> str:
    body = re.sub(r"<svg.*?</svg>", "<plot>", body, flags=re.DOTALL).replace("<plot>", "[plot]")
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", body).split()))


# ---- one run


def test_a_runs_page_shows_all_of_it(ran: Make) -> None:
    found = sections(run_page.run_page(ran()))
    assert list(found) == ["results", "diagnosis", "classes", "examples", "calibration", "layers", "time", "repeat"]
    assert "accuracy 0.5000 0.5000 0.7500" in found["results"]
    assert found["results"].endswith("[plot] [plot] [plot]")
    # of 4 cats 3 are found, and all that are called cats are; of what is called dog 2 of 3 are
    # F1: 2 * 3 / (4 + 3) and 2 * 2 / (2 + 3)
    assert "dog 0.6667 1.0000 0.8000 2 cat 1.0000 0.7500 0.8571 4 dog (1)" in found["classes"]
    assert "dog 93.8% true: cat Right, but the least sure cat 93.8%" in found["examples"]
    assert "On the whole it is 20.0% surer than it is right." in found["calibration"]  # 0.95 - 0.75
    assert "val 0.1250 test 0.0625" in found["calibration"]
    assert found["layers"].count("[plot]") == 4
    assert "training examples a second 200" in found["time"]  # 100 in 0.5 s
    assert "trainable parameters 12,345" in found["time"]
    assert "train model=mlp run" in found["repeat"]
    assert "commit ac5586d packages torch 2.15.0 hardware cores 2" in found["repeat"]


def test_the_diagnosis_has_its_commands_ready_to_copy_the_worst_first(ran: Make) -> None:
    folder = ran()
    text = run_page.run_page(folder)
    found = sections(text)["diagnosis"]
    assert found.index("overfitting warning val/loss rose from 0.5 to 0.6 (epoch 2)") < found.index("slow note")
    commands = re.findall(r'<code>(.*?)</code><button type="button" class="copy">', text)
    assert commands[:2] == [f"train rerun={folder} model.dropout=0.4", f"train rerun={folder} &#39;tags=[a b]&#39;"]
    assert "data_wait 0.1235" in found


def test_a_healthy_run_is_told_so(ran: Make) -> None:
    assert "Nothing was found wrong." in run_page.run_page(ran(diagnosis_json={"findings": []}))


FILES = {
    "diagnosis": "diagnosis_json",
    "results": "metrics_csv",
    "examples": "examples_json",
    "calibration": "calibration_json",
    "layers": "layers_csv",
}


@pytest.mark.parametrize("section", FILES)
def test_what_is_missing_says_so_with_what_to_type_and_the_rest_stands(ran: Make, section: str) -> None:
    file = FILES[section].replace("_", ".")
    found = sections(run_page.run_page(ran(**{FILES[section]: None})))
    assert f"{file} is not in this run's folder. To have it, type: train model=mlp copy" in found[section]
    others = [body for name, body in found.items() if name not in (section, "time")]
    assert not any("is not in this run" in body for body in others)


@pytest.mark.parametrize(
    "content", ["{", "[]", "[1]", '{"test": {}}', '{"findings": [1]}', "a,b\n1,2\n", "epoch,layer\nx,y\n", "\x00"]
)
def test_what_is_damaged_or_of_another_version_costs_its_section_alone(ran: Make, content: str) -> None:
    found = sections(run_page.run_page(ran(**dict.fromkeys(FILES.values(), content))))
    assert len(found) == 8
    assert "dog 0.6667 1.0000 0.8000 2" in found["classes"]


def test_a_damaged_file_is_named(ran: Make) -> None:
    found = sections(run_page.run_page(ran(calibration_json='{"test": {"ece": 0.5}}')))
    assert "calibration.json is damaged, or of another version: KeyError('bins')" in found["calibration"]
    assert (
        "is not readable JSON"
        in sections(run_page.run_page(ran("runs/two", layers_csv=LAYERS, examples_json="{")))["examples"]
    )


def test_an_image_is_an_image_or_is_not_shown(ran: Make) -> None:
    text = run_page.run_page(ran(examples_json=[sample(True, image='" onerror="alert(1)')]))
    assert "an image is not in base64" in text
    assert "onerror" not in text


@pytest.mark.slow
def test_the_numbers_stand_for_classes_whose_names_are_not_known(ran: Make) -> None:
    for name, content in {"runs/a": None, "runs/b": {"names": ["cat"]}, "runs/c": "["}.items():
        assert "1 0.6667 1.0000 0.8000 2" in sections(run_page.run_page(ran(name, preprocess_json=content)))["classes"]


def test_a_run_that_was_not_tested_has_its_curves(ran: Make) -> None:
    results = {name: value for name, value in RESULTS.items() if "/" not in name and name != "confusion"}
    found = sections(run_page.run_page(ran(results_json=results, examples_json=None)))
    assert "results.json no metrics of train, val and test, as with test=false; type evaluate run=" in found["results"]
    assert "the run was not tested" in found["classes"]
    assert "[plot]" in found["results"]


def test_a_run_that_goes_on_has_not_yet_what_comes_at_its_end(ran: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_smarter.run.record.status", lambda _: "running")
    found = sections(run_page.run_page(ran(note={"end": None}, results_json=None, calibration_json=None)))
    assert "calibration.json is not in this run's folder. Not yet: the run goes on." in found["calibration"]


def test_a_run_that_broke_off_goes_on_to_what_it_lacks(ran: Make) -> None:
    folder = ran(note={"status": "interrupted"}, results_json=None, calibration_json=None)
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    assert f"To have it, type: train resume={folder} copy" in sections(run_page.run_page(folder))["calibration"]


def test_a_trial_is_run_again_as_a_run_of_its_own(ran: Make) -> None:
    results = {name: value for name, value in RESULTS.items() if "/" not in name and name != "confusion"}
    folder = ran(note={"status": "pruned"}, results_json=results, calibration_json=None)
    assert f"train rerun={folder} copy" in sections(run_page.run_page(folder))["calibration"]


def test_throughput_is_not_guessed_of_a_run_on_a_part_of_the_data(ran: Make) -> None:
    folder = ran()
    config = folder / ".hydra" / "config.yaml"
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(config), {"trainer": {"limit_train_batches": 4}}), config)
    assert "examples a second" not in sections(run_page.run_page(folder))["time"]


def test_texts_are_shown_as_texts_and_cut(ran: Make) -> None:
    text = "word " * 2000  # 10,000 characters
    found = sections(run_page.run_page(ran(examples_json=[sample(False, text=text)] * 16)))["examples"]
    assert "dog 93.8% true: cat word word" in found
    assert len(found) < 16 * (report_html.MAX_TEXT + 100)


def test_inputs_without_a_picture_have_no_samples(ran: Make) -> None:
    assert "neither images nor texts" in run_page.run_page(ran(examples_json=[sample(True)]))


def test_what_a_stranger_wrote_is_shown_and_never_run(ran: Make) -> None:
    folder = ran(
        note={"command": HOSTILE, "overrides": [HOSTILE], "error": HOSTILE, "status": "failed", "monitor": HOSTILE},
        preprocess_json={"names": [HOSTILE, "dog"]},
        examples_json=[sample(False, text=HOSTILE, predicted=HOSTILE)],
        diagnosis_json={
            "findings": [
                {"name": HOSTILE, "severity": HOSTILE, "evidence": HOSTILE, "where": HOSTILE, "advice": [HOSTILE]}
            ],
            "measured": {HOSTILE: HOSTILE},
        },
        layers_csv=LAYERS.replace("features.0", HOSTILE),
        calibration_json={HOSTILE: {"ece": 0.5, "bins": BINS}},
    )
    text = run_page.run_page(folder)
    assert text.count("<script") == 1  # the page's own
    assert "\u202e" not in text
    assert not re.search(r'<[^>]*\son\w+="', text)
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;\\u202e$_{" in text


@pytest.mark.parametrize("classes", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_classes_and_large_images_stay_under_two_megabytes(ran: Make, classes: int) -> None:
    counts = np.random.default_rng(0).integers(0, 50, (classes, classes)).tolist()
    folder = ran(
        results_json={**RESULTS, "confusion": {"test": counts}},
        preprocess_json={"names": [f"class {'long ' * 50} {place}" for place in range(classes)]},
        examples_json=[sample(False, image=png(128))] * 40,
    )
    path = page.write_page(folder)
    assert path.stat().st_size < 2_000_000
    # An image of noise takes 66,000 characters, the examples 800,000 in all.
    assert path.read_text(encoding="utf8").count(f'<img src="data:image/png;base64,{png(128)}"') == 12


def test_of_too_many_classes_the_worst_are_shown(ran: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_html, "ROW_LIMITS", (1,))
    found = sections(run_page.run_page(ran()))["classes"]
    assert "dog 0.6667" in found
    assert found.endswith("The 1 of 2 classes with the least F1.")


def test_nothing_in_a_page_comes_from_elsewhere(ran: Make) -> None:
    text = run_page.run_page(ran())
    assert "default-src 'none'" in text
    assert not re.findall(r'(?:src|href|action|data)="(?!#|data:image/png;base64,)[^"]*"', text)
    assert "url(" not in re.sub(r"url\(#", "", text)


# ---- many runs


@pytest.fixture
def grid(ran: Make, tmp_path: Path) -> Path:
    """Two learning rates with two seeds each; one job failed."""
    for place, (lr, seed, best) in enumerate([(0.1, 1, 0.5), (0.1, 2, 0.75), (0.2, 1, 0.25), (0.2, 2, None)]):
        failed = {"status": "failed", "error": "ValueError: <no>"} if best is None else {}
        words = ["model=mlp", f"optimizer.lr={lr}", f"seed={seed}"]
        ran(
            f"multiruns/grid/{place}",
            note={"overrides": words, "command": "train -m optimizer.lr=0.1,0.2", **failed},
            results_json=None if best is None else RESULTS | {"best_value": best},
            metrics_csv=None if best is None else METRICS,
        )
    folder = tmp_path / "train" / "multiruns" / "grid"
    (folder / "multirun.yaml").touch()
    return folder


SPACE = {"optimizer.lr": FloatDistribution(1e-4, 1e-1, log=True), "model.name": CategoricalDistribution(["cnn", "mlp"])}


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """Six complete trials, one pruned and one failed, as a search leaves them."""
    return searched(tmp_path / "train" / "multiruns" / "search", 6)


def searched(folder: Path, complete: int) -> Path:
    (folder / "0" / ".hydra").mkdir(parents=True)
    (folder / "multirun.yaml").touch()
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.log"))
    study = optuna.create_study(storage=optuna.storages.JournalStorage(backend), direction="maximize")
    study.set_user_attr("search", {"objective": {"val/accuracy": "maximize"}})
    ends: list[dict[str, Any]] = [{"value": 0.5 + place / (2 * complete)} for place in range(complete)]
    ends += [{"state": TrialState.PRUNED, "intermediate_values": {1: 0.25}, "user_attrs": {"pruned": 1}}]
    ends += [{"state": TrialState.FAIL, "user_attrs": {"error": "Traceback\n  there\nValueError: <no>"}}]
    for place, end in enumerate(ends):
        params = {"optimizer.lr": 10 ** -(1 + 3 * place / len(ends)), "model.name": ("cnn", "mlp")[place % 2]}
        study.add_trial(create_trial(params=params, distributions=SPACE, **end))
    return folder


def test_a_grid_ends_with_its_jobs_the_best_first(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    basic, search = ({"_target_": f"hydra._internal.core_plugins.{name}"} for name in ("b.BasicSweeper", "b.Other"))
    config = {"hydra": {"sweeper": search, "sweep": {"dir": str(grid)}}}
    ReportJobs().on_multirun_end(OmegaConf.create(config))
    assert capsys.readouterr().out == ""  # it prints its own
    config["hydra"]["sweeper"] = basic
    ReportJobs().on_multirun_end(OmegaConf.create(config))
    lines = capsys.readouterr().out.splitlines()
    jobs = [line.split() for line in lines if line.endswith(("seed=1", "seed=2"))]
    assert [line[0] for line in jobs] == ["1", "0", "2", "3"]
    assert "failed: 3: ValueError: <no>" in lines
    assert f"report:      {grid / 'report.html'}" in lines
    assert (grid / "report.html").is_file()


def test_a_grid_without_a_job_ends_without_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweeper = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}
    config = {"hydra": {"sweeper": sweeper, "sweep": {"dir": str(tmp_path / "none")}}}
    ReportJobs().on_multirun_end(OmegaConf.create(config))
    assert capsys.readouterr().out == ""


def test_a_grids_page_has_its_jobs_the_best_first_and_the_means_over_seeds(grid: Path) -> None:
    text = multirun_page.multirun_page(grid)
    found = sections(text)
    assert list(found) == ["best", "plots", "trials", "failures", "repeat"]
    assert "Trial 1: optimizer.lr=0.1 seed=2" in found["best"]
    assert "Its checkpoint on the test split: accuracy 0.7500." in found["best"]
    assert f"train -m resume={grid} copy" in found["best"]  # one is left to do
    assert "2 val/accuracy 0.6250 ± 0.1768 0.5000 0.7500 0.7500 ± 0.0000 optimizer.lr=0.1" in found["best"]
    assert re.findall(r'<tr data-trial="(\d)"', text) == ["1", "0", "2", "3"]
    assert "1 complete 0.7500 0.1 2 3 12 s" in found["trials"]
    assert found["failures"] == "Pruned and failed 3 failed ValueError: <no>"
    assert "train -m optimizer.lr=0.1,0.2 copy" in found["repeat"]


def test_a_searchs_page_has_what_its_study_knows(search: Path) -> None:
    text = multirun_page.multirun_page(search)
    found = sections(text)
    # 0.5 + 5 / 12
    assert "Trial 5: optimizer.lr=" in found["best"]
    assert "best val/accuracy 0.9167 complete 6 pruned 1 failed 1" in readable(text)
    assert "train -m resume=" in found["best"]
    assert "hydra.sweeper.n_trials=16" in found["best"]
    assert found["plots"].count("[plot]") == 3  # history, importances, parallel coordinates
    assert found["failures"].startswith("Pruned and failed 7 failed ValueError: <no> Traceback there")
    assert found["failures"].endswith("6 pruned stopped at validation 1 with 0.2500: others were ahead by then")


def test_a_study_in_a_database_is_not_told_to_go_on_by_a_command_that_is_refused(search: Path) -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(create_trial(value=0.5, params={"optimizer.lr": 0.1, "model.name": "cnn"}, distributions=SPACE))
    (search / "study.log").unlink()
    found = sections(multirun_page.multirun_page(search, study=study))
    assert "train -m rerun=" in found["best"]
    assert "train -m resume=" not in found["best"]


def test_a_trial_has_the_same_mark_in_the_table_and_in_the_plots(search: Path) -> None:
    text = multirun_page.multirun_page(search)
    assert len(re.findall('data-trial="5"', text)) == 3  # a row, a point, a line
    assert len(re.findall('data-trial="7"', text)) == 1  # it failed, and came to nothing


def test_of_several_objectives_there_is_a_front(search: Path) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.set_user_attr("search", {"objective": {"val/accuracy": "maximize", "parameters": "minimize"}})
    for place, values in enumerate(([0.5, 1000.0], [0.75, 25000.0], [0.5, 30000.0])):
        params = {"optimizer.lr": 10.0 ** -(place + 1), "model.name": "cnn"}
        study.add_trial(create_trial(values=values, params=params, distributions=SPACE))
    found = sections(multirun_page.multirun_page(search, study=study))
    assert "Pareto front No other trial is better in every objective than one of these: 1, 0." in found["best"]
    assert f"train -m rerun={search}/1 seed=1,2,3,4,5" in found["best"]
    assert "1 complete 0.7500 25000 0.01 cnn" in found["trials"]
    assert found["plots"].count("[plot]") == 4  # two histories, the front, parallel coordinates


@pytest.mark.parametrize("content", [b"", b"{", b"[]\n", b"\xff\n", b'{"op_code": 99}\n'])
def test_a_damaged_study_leaves_what_the_folders_know(grid: Path, content: bytes) -> None:
    (grid / "study.log").write_bytes(content)
    text = multirun_page.multirun_page(grid)
    assert "study.log cannot be read" in text
    assert "Trial 1: optimizer.lr=0.1 seed=2" in readable(text)


def test_a_search_without_a_complete_trial_has_a_page(search: Path) -> None:
    study = optuna.create_study()
    assert "No trial is complete." in multirun_page.multirun_page(search, study=study)
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"error": ""}))
    assert "0 failed no reason known" in readable(multirun_page.multirun_page(search, study=study))


def test_a_winner_that_was_tested_later_is_told(search: Path) -> None:
    write_json(search / "5" / "evaluate" / "results.json", {"test/accuracy": 0.625})
    assert "Its checkpoint on the test split: accuracy 0.6250." in multirun_page.multirun_page(search)
    (search / "5" / "evaluate" / "results.json").write_text("{")
    assert "Its checkpoint on the test split" not in multirun_page.multirun_page(search)


def test_of_too_many_trials_the_best_are_shown(search: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = multirun_page.multirun_page(search)
    monkeypatch.setattr(report_html, "ROW_LIMITS", (8, 2))
    monkeypatch.setattr(report_html, "MAX_BYTES", len(whole.encode()) - 1)
    text = multirun_page.multirun_page(search)
    assert re.findall(r'<tr data-trial="(\d)"', text) == ["5", "4"]
    assert "The best 2 of 8 trials, here and in the plots." in text


def test_a_thousand_trials_stay_under_two_megabytes(tmp_path: Path) -> None:
    path = page.write_page(searched(tmp_path / "train" / "multiruns" / "large", 1000))
    assert path.stat().st_size < 2_000_000
    assert "998 complete" in readable(path.read_text(encoding="utf8"))


# ---- the file


def test_it_is_written_whole_into_the_folder_or_elsewhere(ran: Make, tmp_path: Path) -> None:
    folder = ran()
    assert page.write_page(folder) == folder / "report.html"
    assert page.write_page(folder, tmp_path / "new" / "a.html") == tmp_path / "new" / "a.html"
    assert (folder / "report.html").read_bytes() == (tmp_path / "new" / "a.html").read_bytes()
    assert not list(folder.glob("*.part"))


def test_where_it_cannot_be_written_is_answered_in_a_line(ran: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/a\.html: .*; output=<file> puts it elsewhere"):
        page.write_page(ran(), tmp_path / "file" / "a.html")


# ---- in a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium, chromium-browser or google-chrome")

# Shows a page at a width, and tells what it has come to: a frame is as narrow as it is asked to be, a window is not.
FRAME = """<!doctype html><iframe src="{page}" style="width: {width}px; height: 900px; border: 0"></iframe>
<pre id="told"></pre>
<script>
document.querySelector("iframe").addEventListener("load", (event) => {{
  const frame = event.target.contentWindow, page = frame.document;
  const drawn = (svg) => [...svg.querySelectorAll("path, use, image")].filter((part) => {{
    const box = part.getBoundingClientRect();
    return box.width + box.height > 0;
  }}).length;
  const told = {{
    overflow: page.documentElement.scrollWidth - frame.innerWidth,
    width: frame.innerWidth,
    plots: [...page.querySelectorAll("svg")].map((svg) => [svg.id, drawn(svg)]),
    images: [...page.images].map((image) => image.complete && image.naturalWidth > 0),
  }};
  {act}
  document.getElementById("told").textContent = JSON.stringify(told);
}});
</script>"""


def shown(path: Path, *, width: int, act: str = "") -> dict[str, Any]:
    """What a browser makes of a page; `act`: what is done with `page`, to be noted in `told`."""
    frame = path.with_name(f"frame-{width}.html")
    frame.write_text(FRAME.format(page=path.name, width=width, act=act), encoding="utf8")
    options = ["--headless", "--disable-gpu", "--allow-file-access-from-files", "--enable-logging=stderr", "--v=0"]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []
    options += [f"--user-data-dir={path.parent}/browser", "--window-size=1400,1000", "--virtual-time-budget=5000"]
    command = [str(CHROMIUM), *options, "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="told">(.+?)</pre>', done.stdout)
    assert found, done.stderr
    told: dict[str, Any] = json.loads(found[1])
    return told | {"console": [line for line in done.stderr.splitlines() if "CONSOLE" in line]}


@in_a_browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["run", "grid", "search"])
def test_a_browser_draws_all_of_it_without_a_complaint_at_any_width(
    request: pytest.FixtureRequest, kind: str, width: int
) -> None:
    folder = request.getfixturevalue("ran")() if kind == "run" else request.getfixturevalue(kind)
    told = shown(page.write_page(folder), width=width)
    assert told["console"] == []
    assert told["width"] == width
    assert told["overflow"] <= 0
    assert len(told["plots"]) == {"run": 10, "grid": 3, "search": 3}[kind]
    assert [name for name, parts in told["plots"] if parts < 3] == []
    assert all(told["images"])


SORTED = """
  const rows = () => [...page.querySelectorAll(".trials tbody tr")].map((row) => row.dataset.trial);
  const head = page.querySelectorAll(".trials th")[0];
  head.click(); told.up = rows();
  head.click(); told.down = rows();
  page.querySelector("tr[data-trial='5']").dispatchEvent(new frame.PointerEvent("pointerover", {bubbles: true}));
  told.on = [...page.querySelectorAll(".on")].map((part) => part.tagName.toLowerCase());
"""


@in_a_browser
def test_a_table_is_sorted_by_a_click_and_a_trial_is_found_in_every_plot(search: Path) -> None:
    told = shown(page.write_page(search), width=1280, act=SORTED)
    assert told["up"] == list("01234567")
    assert told["down"] == list("76543210")
    assert sorted(told["on"]) == ["g", "tr", "use"]


def test_advice_of_a_strangers_folder_sets_plain_keys_alone(past_run: Path) -> None:
    words = ["model.dropout=0.4", "model._target_=os.system", "x; rm -rf ~", "+a=1"]
    finding = {"name": "overfitting", "severity": "warning", "evidence": "", "where": "", "advice": words}
    (past_run / "diagnosis.json").write_text(json.dumps({"findings": [finding], "measured": {}}))
    text = run_page.run_page(past_run)
    assert "model.dropout=0.4" in text
    assert "os.system" not in text
    assert "rm -rf" not in text
