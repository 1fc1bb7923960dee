"""Sections of a run's page about what its task shows: which there are, and what is in them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from tests.train_smarter.report.test_page import HOSTILE, NOTE, png, sections

from train_smarter.commands import train
from train_smarter.report import run_page, views
from train_smarter.report.figures import columns_of
from train_smarter.run.files import read_json, write_json
from train_smarter.task.sections import expected_sections

Compose = Callable[..., DictConfig]
METRICS = "epoch,step,seconds,train/loss,train/rmse,val/loss,val/rmse\n0,10,0.5,0.9,9.5,0.8,8.5\n"
RESULTS: dict[str, Any] = {"monitor": "val/rmse", "best_value": 8.5, "best_epoch": 0, "epochs": 1, "parameters": 3}
TESTED = {"train/loss": 0.9, "test/loss": 0.8, "test/rmse": 8.25, "train_examples": 100}
SCATTER = {"kind": "scatter", "title": "predicted", "x": "true", "y": "guess", "points": [[1.0, 2.0], [3.0, 3.0]]}
BARS = {"kind": "histogram", "title": "residuals", "x": "error", "edges": [-1.0, 0.0, 1.0], "counts": [3, 5]}
TABLE = {"kind": "table", "title": "largest errors", "columns": ["example", "true"], "rows": [[12, 151.25], [3, "cat"]]}
TEXTS = {"kind": "texts", "title": "sampled", "items": [{"caption": "once upon", "text": "a time"}]}


def masks() -> dict[str, Any]:
    items = [{"images": [png(), png()], "caption": "example 4: IoU 0.5"}]
    return {"kind": "images", "title": "worst masks", "items": items, "legend": [["roof", "#30363d"]]}


@pytest.fixture
def ran(tmp_path: Path) -> Callable[..., Path]:
    """The folder of a run with a task of this class; files are its JSON files."""

    def make(task: str | None, metrics_csv: str = METRICS, callbacks: Any = None, **files: Any) -> Path:
        folder = tmp_path / "train" / "runs" / f"run{len(list(tmp_path.glob('train/runs/*')))}"
        (folder / ".hydra").mkdir(parents=True)
        cfg: dict[str, Any] = {"data": {"_target_": "a.data.Own"}, "model": {"_target_": "a.model.Own"}, "trainer": {}}
        cfg["task"] = {"_target_": f"somewhere.{task}"} if task else {}
        cfg |= {} if callbacks is None else {"callbacks": callbacks}
        OmegaConf.save(OmegaConf.create(cfg), folder / ".hydra" / "config.yaml")
        note = NOTE | {"monitor": "val/rmse", "mode": "min", "metrics": {"rmse": "min"}}
        for name, content in {"record": note, "results": RESULTS, **files}.items():
            write_json(folder / f"{name}.json", content)
        (folder / "metrics.csv").write_text(metrics_csv)
        return folder

    return make


def sections_of(folder: Path) -> dict[str, str]:
    return sections(run_page.run_page(folder))


# ---- which sections there are


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("Classification", {"classes", "examples", "calibration"}),
        ("Regression", {"predictions"}),
        ("Segmentation", {"details", "predictions"}),
        ("MyOwn", set()),
        (None, set()),
    ],
)
def test_a_section_that_the_task_does_not_have_is_left_out_and_one_that_is_missing_says_so(
    ran: Callable[..., Path], task: str | None, expected: set[str]
) -> None:
    text = run_page.run_page(ran(task))
    found = sections(text)
    assert set(found) == {"diagnosis", "results", "layers", "time", "repeat"} | expected
    nav = re.search("<nav>(.*?)</nav>", text)
    assert nav is not None
    assert re.findall('href="#(.*?)"', nav[1]) == list(found)
    if "predictions" in expected:
        assert "samples.json is not in this run's folder. To have it, type: train model=mlp" in found["predictions"]
    if "details" in expected:
        assert "results.json holds no table of the task's metrics: the run was not tested." in found["details"]


def test_a_run_from_before_there_were_tasks_is_a_classification() -> None:
    assert "classes" in expected_sections({"seed": 1})


def test_a_section_of_a_callback_that_was_removed_is_left_out() -> None:
    removed = {"calibration": None, "prediction_samples": {"samples": 3}}
    assert expected_sections({"callbacks": removed}) == {"classes", "examples"}


def test_what_a_task_of_ones_own_has_left_is_shown(ran: Callable[..., Path]) -> None:
    results = RESULTS | TESTED | {"places": {"test": {"hits": [3.0, 12.0], "share": [0.25, None]}}}
    found = sections_of(ran("MyOwn", results=results, samples={"split": "test", "views": [SCATTER]}))
    assert found["details"] == "Details Places on test hits share 0 3 0.2500 1 12 -"
    assert found["predictions"] == "Predictions on test [plot]"
    assert "test rmse 8.2500" in run_page.run_page(ran("MyOwn", results=results)).replace("</dt><dd>", " ")


def test_a_run_without_a_task_has_curves_of_what_it_has_logged(ran: Callable[..., Path]) -> None:
    logged = "epoch,step,seconds,train_loss,val_loss,gap\n0,10,0.5,0.9,0.8,0.1\n"
    text = run_page.run_page(ran(None, metrics_csv=logged))
    assert set(re.findall(r'aria-label="(\w+) of (\w+(?: and \w+)*) over', text)) == {
        ("loss", "train and val"),
        ("gap", "gap"),
    }


def test_the_examples_a_second_are_those_of_the_training_split(ran: Callable[..., Path]) -> None:
    results = RESULTS | TESTED | {"train_epoch_seconds_median": 0.5}
    assert "training examples a second 200" in sections_of(ran("Regression", results=results))["time"]  # 100 in 0.5 s


# ---- what they show


def test_every_kind_of_view_is_shown(ran: Callable[..., Path]) -> None:
    shown = [SCATTER, BARS, TABLE, TEXTS, masks(), {"kind": "hologram", "title": "unknown"}]
    folder = ran("MyOwn", samples={"split": "test", "views": shown})
    text = run_page.run_page(folder)
    body = sections(text)["predictions"]
    assert body.startswith("Predictions on test [plot] [plot] largest errors example true 12 151.2500 3 cat")
    assert "sampled once upon a time" in body
    assert body.endswith("worst masks roof example 4: IoU 0.5")
    assert text.count('<img src="data:image/png;base64,') == 2
    assert "-1 to 0: 3" in text  # over the first bar


@pytest.mark.parametrize(
    "view",
    [
        {"kind": "scatter", "title": "a", "points": [["x", 1]]},
        {"kind": "scatter", "title": "a", "points": []},
        {"kind": "table", "title": "a", "columns": ["a"], "rows": 3},
        {"kind": "images", "title": "a", "items": [{"images": ['" onerror="alert(1)'], "caption": ""}]},
        {"kind": "images", "title": "a", "items": [{"images": [], "caption": ""}], "legend": [["a", "red;x:url(y)"]]},
        {"title": "of no kind"},
    ],
)
def test_a_view_that_is_damaged_costs_its_section_alone(ran: Callable[..., Path], view: dict[str, Any]) -> None:
    text = run_page.run_page(ran("MyOwn", samples={"split": "test", "views": [view]}))
    assert "samples.json is damaged, or of another version" in sections(text)["predictions"]
    assert "onerror" not in text
    assert "red;x" not in text


def test_what_a_stranger_wrote_is_shown_and_never_run(ran: Callable[..., Path]) -> None:
    shown = [
        SCATTER | {"title": HOSTILE, "x": HOSTILE},
        {"kind": "table", "title": HOSTILE, "columns": [HOSTILE], "rows": [[HOSTILE]]},
        {"kind": "texts", "title": HOSTILE, "items": [{"caption": HOSTILE, "text": HOSTILE}]},
        masks() | {"legend": [[HOSTILE, "#30363d"]]},
    ]
    results = RESULTS | {HOSTILE.replace("/", ""): {HOSTILE: {HOSTILE: [1.0]}}}
    text = run_page.run_page(ran("MyOwn", results=results, samples={"split": HOSTILE, "views": shown}))
    assert text.count("<script") == 1  # the page's own
    assert "\u202e" not in text
    assert text.count("&lt;script&gt;") > 8


def test_many_images_are_cut(ran: Callable[..., Path]) -> None:
    items = [{"images": [png(128)], "caption": ""}] * 40
    view = {"kind": "images", "title": "all", "items": items}
    text = run_page.run_page(ran("MyOwn", samples={"split": "test", "views": [view, view]}))
    assert text.count("<img") == views.MAX_IMAGES // len(png(128))


@pytest.mark.parametrize("details", [None, {}, [], [[1, 2]], {"a": 1}, {"a": [1], "b": [1, 2]}, {"a": []}])
def test_details_that_are_no_table_are_left_out(details: Any) -> None:
    assert columns_of(details) is None


# ---- whole runs

TASKS = {
    "numbers": ["data=numbers", "model=linear"],
    "tags": ["data=tags", "model=linear"],
    "blobs": ["data=blobs", "model=unet_tiny"],
    "letters": ["data=letters", "model=gru"],
    "pictures": ["data=blobs", "model=unet_tiny", "task=reconstruction", "task.output_per=pixel"],
}
SHOWN = {
    "numbers": ("Targets on test rmse mae r2 height", "predicted - true"),
    "tags": ("Labels on test precision recall f1 examples average precision red", "most wrong labels"),
    "blobs": ("Segments on test iou dice pixels background", "worst masks: image, true and predicted mask background"),
    "letters": (None, "sampled at temperature 0.8"),
    "pictures": (None, "largest errors: input, output example"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
def test_a_run_of_each_task_leaves_what_its_page_shows(
    compose: Compose, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    short = ["trainer=cpu", "trainer.max_epochs=1", "callbacks.progress=null"]
    train.run_train(compose(*TASKS[kind], *short))
    folder = tmp_path / "run"
    assert read_json(folder / "samples.json")["split"] == "test"
    found = sections_of(folder)
    assert "is not in this run" not in " ".join(found.values())
    table, shown = SHOWN[kind]
    assert ("details" in found) == (table is not None)
    assert table is None or table in found["details"]
    assert shown in found["predictions"]
    assert "examples a second" in found["time"]
    assert not {"calibration", "examples", "classes"} & set(found)
    assert not [line for line in caplog.messages if "prediction_samples" in line or "calibration" in line]
