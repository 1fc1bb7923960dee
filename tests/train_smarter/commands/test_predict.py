import csv
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from sample_project.model.mlp import MLP
from train_smarter.commands import evaluate, predict
from train_smarter.config.build import build_data, build_model
from train_smarter.data.examples import RawInput
from train_smarter.data.image_data import ImageData
from train_smarter.errors import UserError
from train_smarter.history.arguments import argv_for_reader
from train_smarter.inference import predictor, reader, writer
from train_smarter.inference.predictor import Predictions
from train_smarter.inference.reader import InputReader
from train_smarter.run.files import read_json, write_json
from train_smarter.task.classification import Classification

Compose = Callable[..., DictConfig]
Command = Callable[..., subprocess.CompletedProcess[str]]
Rows = list[dict[str, str]]
DIGITS = ["model=mlp", "trainer=cpu", "data.size=8", "data.eval_batch_size=64"]
PHRASES = ["data=phrases", "+data.pairs=50", "model=lstm", "model.hidden=8", "trainer=cpu", "data.eval_batch_size=2"]


def made(folder: Path, compose: Compose, *overrides: str) -> Path:
    """The folder of a run that has learned nothing: its weights are those that it began with."""
    cfg = compose(*overrides)
    torch.manual_seed(1)
    data, model = build_data(cfg), build_model(cfg)
    data.setup()
    (folder / ".hydra").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    OmegaConf.save(list(overrides), folder / ".hydra" / "overrides.yaml")
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    write_json(folder / "preprocess.json", data.preprocess())
    torch.save({"state_dict": model.state_dict()}, folder / "checkpoints" / "best.ckpt")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def digits(compose: Compose, home: Path) -> Path:
    return home / "digits" if (home / "digits").exists() else made(home / "digits", compose, *DIGITS)


@pytest.fixture
def phrases(compose: Compose, home: Path) -> Path:
    return home / "phrases" if (home / "phrases").exists() else made(home / "phrases", compose, *PHRASES)


@pytest.fixture
def predicted(compose: Compose) -> Callable[..., Rows]:
    """Types `predict` and reads what it writes; with `output=`, that is read by the test."""

    def typed(folder: Path, *words: str) -> Rows:
        shutil.rmtree(folder / "predict", ignore_errors=True)
        kept = [word for word in predict.rewrite_argv([f"run={folder}", *words]) if "hydra." not in word]
        predict.run_predict(compose(*kept, verb="predict"))
        elsewhere = any(word.startswith("output=") for word in words)
        assert (folder / "predict").exists() != elsewhere
        return [] if elsewhere else rows(folder / "predict" / "predictions.csv")

    return typed


def rows(file: Path) -> Rows:
    with file.open(encoding="utf8", newline="") as table:
        return list(csv.DictReader(table))


def paint(file: Path, colour: Any = "gray", *, mode: str = "L", size: tuple[int, int] = (8, 8)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(file)
    return file


# ---- what is predicted


def test_a_split_predicted_has_the_accuracy_that_it_is_evaluated_with(
    digits: Path, predicted: Callable[..., Rows], compose: Compose, tmp_path: Path
) -> None:
    table = predicted(digits, "split=test")
    typed = [word for word in argv_for_reader([f"run={digits}"], "evaluate", tmp_path) if "hydra." not in word]
    evaluate.run_evaluate(compose(*typed, "callbacks.progress=null", "splits=[test]", verb="evaluate"))
    results = read_json(digits / "evaluate" / "results.json")
    right = sum(row["label"] == row["prediction"] for row in table)
    assert right / len(table) == pytest.approx(results["test/accuracy"], abs=1e-7)
    confusion = torch.zeros(10, 10, dtype=torch.long)
    for row in table:
        confusion[int(row["label"]), int(row["prediction"])] += 1
    assert confusion.tolist() == results["confusion"]["test"]
    assert len({row["prediction"] for row in table}) > 1, "a constant prediction shows nothing"
    assert [int(row["index"]) for row in table] == list(range(len(table)))


def test_a_folder_of_images_is_predicted_as_the_split_that_they_were_saved_from(
    digits: Path, predicted: Callable[..., Rows], compose: Compose, tmp_path: Path
) -> None:
    data = build_data(compose(*DIGITS))
    data.setup()
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(data.examples["val"].inputs[:70]):
        Image.fromarray(image[0].numpy()).save(tmp_path / "photos" / f"{number:03}.png")
    expected = predicted(digits, "split=val")[:70]
    table = predicted(digits, f"input={tmp_path}/photos")
    assert [row["input"] for row in table] == [f"{tmp_path}/photos/{number:03}.png" for number in range(70)]
    for row, other in zip(table, expected, strict=True):
        each = {str(digit): float(row[str(digit)]) for digit in range(10)}
        assert each == pytest.approx({digit: float(other[digit]) for digit in each}, rel=1e-5)
        assert row["prediction"] == other["prediction"] == max(each, key=lambda digit: each[digit])
        assert float(row["probability"]) == each[row["prediction"]]
        assert sum(each.values()) == pytest.approx(1, abs=1e-5)


def test_images_of_any_size_and_kind_are_taken_and_what_was_done_is_said_in_one_line(
    digits: Path, predicted: Callable[..., Rows], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(tmp_path / "photos" / "a.png")
    paint(tmp_path / "photos" / "b.png", size=(30, 20))
    paint(tmp_path / "photos" / "c.jpg", "red", mode="RGB", size=(30, 20))
    with caplog.at_level(logging.INFO):
        assert len(predicted(digits, f"input={tmp_path}/photos/*.[pj]*g")) == 3
    assert "of 3 images: 2 scaled to 8x8, 1 converted to grey" in caplog.messages


def test_own_images_are_predicted_where_neither_the_training_images_nor_the_logger_are(
    compose: Compose, predicted: Callable[..., Rows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, colour in (("cat", "red"), ("dog", "blue")):
        for number in range(10):
            paint(tmp_path / "photos" / name / f"{number}.png", colour, mode="RGB")
    words = ["data=images", f"data.dir={tmp_path}/photos", "data.size=8", "model=mlp", "trainer=cpu", "logger=wandb"]
    run = made(tmp_path / "run", compose, *words)
    monkeypatch.setattr("train_smarter.config.check.OPTIONAL_LOGGERS", {"wandb": "a_package_that_is_not_installed"})
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    table = predicted(run, f"input={tmp_path}/elsewhere")
    assert len(table) == 20
    assert list(table[0]) == ["input", "prediction", "probability", "cat", "dog"]


@pytest.mark.slow
def test_masks_of_own_images_are_predicted_where_the_training_masks_are_gone(
    compose: Compose, predicted: Callable[..., Rows], tmp_path: Path
) -> None:
    for number in range(10):
        paint(tmp_path / "photos" / f"{number}.png", "red", mode="RGB")
        mask = Image.new("L", (28, 28))
        mask.paste(255, (0, 0, 14, 28))
        (tmp_path / "masks").mkdir(exist_ok=True)
        mask.save(tmp_path / "masks" / f"{number}.png")
    words = ["data=images", f"data.dir={tmp_path}/photos", f"data.masks={tmp_path}/masks", "task=segmentation"]
    run = made(tmp_path / "run", compose, *words, "data.size=8", "model=unet_tiny", "trainer=cpu")
    for name in ("photos", "masks"):
        (tmp_path / name).rename(tmp_path / f"{name}_elsewhere")
    table = predicted(run, f"input={tmp_path}/photos_elsewhere")
    assert list(table[0]) == ["input", "mask", "share background", "share foreground"]
    assert len(table) == 10
    with Image.open(run / "predict" / table[0]["mask"]) as written:
        assert written.size == (8, 8)


def test_a_file_of_texts_is_predicted_line_by_line_in_batches(
    phrases: Path, predicted: Callable[..., Rows], tmp_path: Path
) -> None:
    texts = ["the plot was not bad , it was good", "", "the plot was not good , it was bad", 'a, "b"; c', "x"]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    table = predicted(phrases, f"input={tmp_path}/texts.txt")
    assert [row["input"] for row in table] == texts
    assert [row["line"] for row in table] == ["1", "2", "3", "4", "5"]
    assert table[0]["positive"] != table[2]["positive"]  # the order of the words counts
    one = predicted(phrases, f"input={texts[0]}")
    assert float(one[0]["positive"]) == pytest.approx(float(table[0]["positive"]), rel=1e-5)
    assert float(one[0]["positive"]) + float(one[0]["negative"]) == pytest.approx(1)


def test_a_text_is_taken_as_it_is_typed(phrases: Path, predicted: Callable[..., Rows]) -> None:
    text = (
        "good, [bad] {a: b} = 5% #1 'it' \"is\" ${5} ${oc.env:HOME} \\${x} caf\u00e9 \U0001f600\ttab\nline "
        + "x" * 300
        + "\\"
    )
    assert [row["input"] for row in predicted(phrases, f"input={text}")] == [text]


def test_a_few_predictions_are_shown_as_well(
    phrases: Path, predicted: Callable[..., Rows], capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = predicted(phrases, "input=a good film")
    assert capsys.readouterr().out == f"{row['prediction']}  {float(row['probability']):.4f}  1 a good film\n"


# ---- where it is written


def test_standard_input_to_standard_output_has_nothing_but_the_predictions(
    phrases: Path, predicted: Callable[..., Rows], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("a good film\n\nça \u2028 bad".encode())))
    predicted(phrases, "input=-", "output=-", "format=jsonl")
    lines = [json.loads(line) for line in capsys.readouterr().out.removesuffix("\n").split("\n")]
    assert [line["input"] for line in lines] == ["a good film", "", "ça \u2028 bad"]
    for number, line in enumerate(lines, start=1):
        assert list(line) == ["line", "input", "prediction", "probability", "probabilities"]
        assert line["line"] == number
        assert line["probability"] == max(line["probabilities"].values()) == line["probabilities"][line["prediction"]]
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_the_output_may_lie_anywhere(phrases: Path, predicted: Callable[..., Rows], tmp_path: Path) -> None:
    predicted(phrases, "input=a good film", f"output={tmp_path}/new/a, b.JSONL")
    (line,) = (tmp_path / "new" / "a, b.JSONL").read_text(encoding="utf8").splitlines()
    assert json.loads(line)["input"] == "a good film"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a, b.JSONL"]


def test_a_class_called_like_a_column_gets_a_column_of_its_own() -> None:
    file, names = io.StringIO(), ["label", "cat"]
    columns = Classification(num_classes=2).columns({"probabilities": torch.tensor([[0.25, 0.75]])}, names)
    writer.CSVTable(file).add(Predictions([{"index": 0, "label": "cat"}], columns, {}))
    assert file.getvalue() == "index,label,prediction,probability,p(label),cat\n0,cat,cat,0.75,0.25,0.75\n"


def test_names_that_no_encoding_knows_are_written_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = os.fsdecode(b"\xff.png")
    with writer.open_output(tmp_path / "a.jsonl") as file:
        writer.JSONLines(file).add(Predictions([{"input": name}], {"prediction": ["cat"]}, {}))
    assert json.loads((tmp_path / "a.jsonl").read_text(encoding="utf8"))["input"] == name
    with caplog.at_level(logging.WARNING):
        list(InputReader(Numbers(), iter([name])))
    caplog.text.encode("utf8")
    assert "\\udcff.png: could not convert" in caplog.text


# ---- what cannot be read


def test_broken_files_are_named_left_out_and_counted_and_the_exit_code_says_so(
    digits: Path, predicted: Callable[..., Rows], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        paint(tmp_path / "photos" / f"{number:03}.png")
    (tmp_path / "photos" / "007.png").write_text("no image")
    (tmp_path / "photos" / "099.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING), pytest.raises(SystemExit) as ended:
        predicted(digits, f"input={tmp_path}/photos")
    assert ended.value.code == 1
    whole = [number for number in range(100) if number not in (7, 99)]
    table = rows(digits / "predict" / "predictions.csv")
    assert [row["input"] for row in table] == [f"{tmp_path}/photos/{number:03}.png" for number in whole]
    first, second, last = caplog.messages
    assert first.startswith(f"{tmp_path}/photos/007.png: cannot identify image file")
    assert second.startswith(f"{tmp_path}/photos/099.png: cannot identify image file")
    assert last == "2 of 100 images could not be read"


def test_where_nothing_can_be_predicted_nothing_is_written(
    digits: Path, predicted: Callable[..., Rows], tmp_path: Path
) -> None:
    assert (
        reader.empty_input_message("photos", InputReader(Numbers(), iter([])))
        == "input=photos: nothing is there to predict"
    )
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"none of 2 images could be read; the last is .*b\.png: cannot identify"):
        predicted(digits, f"input={tmp_path}/*.png", f"output={tmp_path}/new/a.csv")
    assert not list((tmp_path / "new").iterdir())


def test_what_fails_half_way_leaves_the_earlier_table_alone(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("earlier")

    def interrupted() -> None:
        with writer.open_output(tmp_path / "a.csv") as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.csv", "earlier")]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"a.csv cannot be written: the disk is full"),
        writer.open_output(tmp_path / "a.csv"),
    ):
        raise OSError(28, "No space left on device")
    (tmp_path / "b").touch()
    with pytest.raises(UserError, match=r"b/a.csv: "), writer.open_output(tmp_path / "b" / "a.csv"):
        pass


def test_a_network_that_has_broken_down_is_told() -> None:
    with pytest.raises(UserError, match="outputs are no numbers"):
        predicted_numbers(iter([1, "nan"]))


# ---- streaming


class Numbers(ImageData):
    """Its sources are numbers; each is an image of one pixel."""

    def __init__(self, *, pause: Callable[[int], float] = lambda _: 0, **data: Any) -> None:
        super().__init__(**{"num_classes": 2, "shape": [1, 1, 1], "eval_batch_size": 8, **data})
        self.names, self.pause = ["even", "odd"], pause

    def load_input(self, source: Any) -> RawInput:
        time.sleep(self.pause(source))
        return RawInput({"input": source}, torch.full((1, 1, 1), float(source)))


class Parity(MLP):
    """Knows the even from the odd."""

    def __init__(self) -> None:
        super().__init__(task=Classification(num_classes=2), shape=[1, 1, 1])

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) * 0.5 + 0.5) % 2 - 0.5  # what normalising has done is undone


def predicted_numbers(sources: Iterator[Any], **data: Any) -> list[Predictions]:
    numbers = Numbers(**data)
    inputs = InputReader(numbers, sources)
    cpu = torch.device("cpu")
    return list(predictor.predict(numbers, Parity().eval(), inputs, device=cpu, names=numbers.names))


def test_no_more_than_two_batches_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    asked: list[int] = []

    def sources() -> Iterator[int]:
        for number in range(1000):
            asked.append(number)
            yield number

    file, done, numbers = io.StringIO(), 0, Numbers()
    table, inputs = writer.CSVTable(file), InputReader(numbers, sources())
    batches = predictor.predict(numbers, Parity().eval(), inputs, device=torch.device("cpu"), names=numbers.names)
    for batch in batches:
        table.add(batch)
        done += len(batch)
        assert len(file.getvalue().splitlines()) == 1 + done  # written as it comes
        assert len(asked) <= done + 2 * 8
    assert done == len(asked) == 1000


@pytest.mark.parametrize("threads", [1, 4])
def test_the_order_is_that_of_the_input_however_long_each_takes(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: threads)
    predictions = predicted_numbers(iter(range(50)), pause=lambda number: 0.002 * (number % 3))
    assert [len(batch) for batch in predictions] == [8, 8, 8, 8, 8, 8, 2]
    assert [row["input"] for batch in predictions for row in batch.id_columns] == list(range(50))
    assert [name for batch in predictions for name in batch.columns["prediction"]] == ["even", "odd"] * 25


def test_images_are_read_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    began = time.perf_counter()
    list(InputReader(Numbers(pause=lambda _: 0.05), iter(range(16))))
    assert time.perf_counter() - began < 0.5  # one after the other, it would be 16 x 0.05 = 0.8


def test_broken_ones_leave_full_batches_behind() -> None:
    inputs = InputReader(Numbers(), iter([0, 1, "x", *range(2, 20)]))
    assert [len(told) for told, _ in inputs] == [8, 8, 4]
    assert (inputs.whole, inputs.unreadable) == (20, 1)


# ---- what a user may type


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the working directory."""
    (tmp_path / "there.csv").touch()
    monkeypatch.chdir(tmp_path)


NULLS = {"run": "run", "input": None, "split": None, "output": None, "format": "csv", "device": "auto"}


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({}, r"takes something to predict: type input=\.\.\., an image, .* or type split=test"),
        ({"input": ""}, "takes something to predict"),
        ({"input": "a.png", "split": "test"}, "takes input= or split=, not both"),
        ({"split": "tset"}, "split=tset: give train, val, test; did you mean 'test'"),
        ({"split": ["test"]}, r"split=\['test'\]: give train, val, test"),
        ({"input": "a.png", "format": "json"}, "format=json: give csv, jsonl; did you mean 'jsonl'"),
        ({"input": "a.png", "device": "gpu"}, "device=gpu: give auto, cpu, cuda, mps"),
        ({"input": "a.png", "output": "."}, "output=. is no file: give the name of one, or - for standard output"),
        ({"input": "a.png", "output": os.devnull}, "is no file"),
        ({"input": "./there.csv", "output": "there.csv"}, "output=there.csv is the input, which would be lost"),
    ],
)
def test_words_that_do_not_fit_are_answered_in_a_line(typed: dict[str, Any], message: str) -> None:
    cfg = OmegaConf.create(NULLS | typed)

    def answered() -> None:
        predict.reject_bad_values(cfg)
        predict.output_path(cfg)

    with pytest.raises(UserError, match=message) as refused:
        answered()
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("typed", "file", "form"),
    [
        ({}, "run/predict/predictions.csv", "csv"),
        ({"format": "jsonl"}, "run/predict/predictions.jsonl", "jsonl"),
        ({"output": ""}, "run/predict/predictions.csv", "csv"),
        ({"output": "-"}, None, "csv"),
        ({"output": "a.jsonl"}, "a.jsonl", "jsonl"),
        ({"output": "a.csv", "format": "jsonl"}, "a.csv", "csv"),
        ({"output": "a.txt", "format": "jsonl"}, "a.txt", "jsonl"),
        ({"output": "there.csv"}, "there.csv", "csv"),  # of an earlier time
        ({"output": "there.csv", "input": "a film " * 100}, "there.csv", "csv"),
    ],
)
def test_output_and_format_say_what_is_written(typed: dict[str, Any], file: str | None, form: str) -> None:
    cfg = OmegaConf.create(NULLS | {"input": "a.png"} | typed)
    path, written = predict.output_path(cfg)
    assert written == form
    assert (path and path.absolute()) == (file and Path(file).absolute())


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["a.png"], "a.png: type input=..., with quotes around a text or a glob"),
        (["a", "good", "film", "indeed"], "a good film ...: type input=..."),
        (["input=a.png", "input=b.png"], "input=a.png input=b.png: give one input"),
        (["input=a.png", "-m"], "predict reads one run at a time"),
    ],
)
def test_a_command_line_that_means_something_else_is_answered(typed: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        predict.rewrite_argv(["run=last", *typed])


def test_an_override_that_removes_something_is_no_text(digits: Path) -> None:
    assert (
        predict.rewrite_argv([f"run={digits}", "split=test", "~callbacks.prediction_samples"])[-1]
        == "~callbacks.prediction_samples"
    )


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["input=their.csv"], "input=their.csv: there is no such image; .* did you mean 'there.csv'"),
        (["split=test", "checkpoint=first"], "checkpoint=first: .* has best"),
    ],
)
def test_what_is_not_there_is_answered(
    digits: Path, predicted: Callable[..., Rows], typed: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        predicted(digits, *typed)


def test_a_device_that_is_not_there_is_answered_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert predictor.device_of("auto").type == predictor.device_of("cpu").type == "cpu"
    with pytest.raises(UserError, match="device=cuda: this machine has cpu; device=auto takes the first"):
        predictor.device_of("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert predictor.device_of("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert predictor.device_of("auto").type == "cuda"
    assert predictor.device_of("cpu").type == "cpu"


# ---- as a process


@pytest.mark.slow
def test_a_pipe_gets_predictions_alone_and_may_be_closed_early(phrases: Path, command: Command) -> None:
    answer = command("predict", f"run={phrases}", "input=a good, 'fine' film", "output=-", "format=jsonl")
    assert (answer.returncode, json.loads(answer.stdout)["input"]) == (0, "a good, 'fine' film")
    assert "written to standard output" in answer.stderr
    typed = [sys.executable, "-m", "train_smarter.commands.predict", f"run={phrases}", "input=-", "output=-"]
    shell = f"yes 'a good film' | head -100000 | {' '.join(typed)} | head -3"
    piped = subprocess.run(shell, shell=True, capture_output=True, text=True, timeout=120, check=True)
    assert len(piped.stdout.splitlines()) == 3
    assert "Traceback" not in piped.stderr
    assert "Broken" not in piped.stderr


@pytest.mark.slow
def test_broken_input_makes_exit_code_1_and_none_exit_code_2(digits: Path, command: Command, tmp_path: Path) -> None:
    paint(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "b.png").touch()
    assert command("predict", f"run={digits}", "input=photos").returncode == 1
    answer = command("predict", f"run={digits}", "input=photos/b.png")
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1].startswith("input=photos/b.png: none of 1 images could be read")
