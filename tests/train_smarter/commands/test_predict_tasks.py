"""Predictions of each kind of task."""

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningDataModule, LightningModule
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sample_project.data.letters import Letters
from train_smarter.commands import evaluate, predict
from train_smarter.config.build import build_data, build_model
from train_smarter.data.base import Data
from train_smarter.data.examples import Examples
from train_smarter.errors import UserError
from train_smarter.fit.module import Model
from train_smarter.history.arguments import argv_for_reader
from train_smarter.history.saved_config import use_recorded_counts
from train_smarter.inference import predictor
from train_smarter.inference.predictor import task_of
from train_smarter.inference.reader import InputReader, iter_split
from train_smarter.inference.writer import JSONLines, PredictionFolders, open_output, write
from train_smarter.run.files import read_json, write_json
from train_smarter.task.base import Files, Task
from train_smarter.task.classification import Classification
from train_smarter.task.multilabel import Multilabel
from train_smarter.task.regression import Regression
from train_smarter.task.segmentation import Segmentation, class_color

Compose = Callable[..., DictConfig]
Rows = list[dict[str, str]]
TASKS = {
    "regression": ["data=numbers", "model=linear", "data.count=60"],
    "multilabel": ["data=tags", "model=linear", "data.count=60"],
    "segmentation": ["data=blobs", "model=unet_tiny", "data.count=30"],
    "language_model": ["data=letters", "model=gru", "data.count=40"],
    "reconstruction": [
        "task=reconstruction",
        "task.output_per=pixel",
        "data=blobs",
        "model=unet_tiny",
        "data.count=30",
    ],
}


@pytest.fixture
def run_of(compose: Compose, tmp_path: Path) -> Callable[..., tuple[Path, Data, Model]]:
    """Make the folder of a run that has learned the task's scaling alone; return its data and model, too."""

    def make(kind: str, *more: str) -> tuple[Path, Data, Model]:
        words, folder = [*TASKS[kind], "trainer=cpu", "data.eval_batch_size=8", *more], tmp_path / kind
        cfg = compose(*words)
        torch.manual_seed(1)
        data, model = build_data(cfg), build_model(cfg)
        data.setup()
        model.task.fit([model.task.targets((data.examples["train"].inputs, data.examples["train"].targets))])
        (folder / ".hydra").mkdir(parents=True)
        (folder / "checkpoints").mkdir()
        OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
        OmegaConf.save(words, folder / ".hydra" / "overrides.yaml")
        write_json(folder / "preprocess.json", data.preprocess())
        torch.save({"state_dict": model.state_dict()}, folder / "checkpoints" / "best.ckpt")
        return folder, data, model.eval()

    return make


@pytest.fixture
def predicted(compose: Compose) -> Callable[..., Rows]:
    """Run `predict` in this process; return the rows of its predictions.csv."""

    def run(folder: Path, *words: str) -> Rows:
        kept = [word for word in predict.rewrite_argv([f"run={folder}", *words]) if "hydra." not in word]
        predict.run_predict(compose(*kept, verb="predict"))
        return read_rows(folder / "predict" / "predictions.csv")

    return run


def read_rows(file: Path) -> Rows:
    if not file.exists():
        return []
    with file.open(encoding="utf8", newline="") as table:
        return list(csv.DictReader(table))


def column(rows: Rows, name: str) -> Tensor:
    return torch.tensor([float(row[name]) for row in rows])


@torch.no_grad()
def outputs_of(data: Data, model: Model) -> Tensor:
    """Outputs of the network for the test split."""
    inputs, _ = data.on_after_batch_transfer((data.examples["test"].inputs, None), 0)
    outputs: Tensor = model(inputs)
    return outputs


# ---- columns


def test_a_regression_predicts_each_target_in_its_unit_beside_the_true_one(
    run_of: Any, predicted: Callable[..., Rows], compose: Compose, tmp_path: Path
) -> None:
    folder, data, model = run_of("regression")
    rows = predicted(folder, "split=test")
    assert list(rows[0]) == ["index", "true height", "true weight", "prediction height", "prediction weight"]
    train, test = data.examples["train"].targets.double(), data.examples["test"].targets
    expected = outputs_of(data, model).double() * train.std(0, correction=0) + train.mean(0)
    given = torch.stack([column(rows, f"prediction {name}") for name in ("height", "weight")], 1)
    true = torch.stack([column(rows, f"true {name}") for name in ("height", "weight")], 1)
    torch.testing.assert_close(given, expected.float(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(true, test, rtol=1e-6, atol=1e-5)
    typed = [word for word in argv_for_reader([f"run={folder}"], "evaluate", tmp_path) if "hydra." not in word]
    evaluate.run_evaluate(compose(*typed, "callbacks.progress=null", "splits=[test]", verb="evaluate"))
    results = read_json(folder / "evaluate" / "results.json")
    rmse = (given - true).square().mean(0).sqrt().mean()
    assert results["test/rmse"] == pytest.approx(float(rmse), rel=1e-5)


def test_a_multilabel_run_predicts_a_set_of_labels_and_the_probability_of_each(
    run_of: Any, predicted: Callable[..., Rows]
) -> None:
    folder, data, model = run_of("multilabel")
    rows = predicted(folder, "split=test")
    assert list(rows[0]) == ["index", "true", "labels", "red", "round", "rare"]
    probabilities = outputs_of(data, model).sigmoid()
    names = ["red", "round", "rare"]
    for row, given, true in zip(rows, probabilities, data.examples["test"].targets, strict=True):
        assert [float(row[name]) for name in names] == pytest.approx(given.tolist(), rel=1e-5)
        assert row["labels"].split() == [name for name, share in zip(names, given, strict=True) if share > 0.5]
        assert row["true"].split() == [name for name, there in zip(names, true, strict=True) if there]
    assert len({row["labels"] for row in rows}) > 1


def test_a_language_model_predicts_the_next_token_of_each_window(run_of: Any, predicted: Callable[..., Rows]) -> None:
    folder, data, model = run_of("language_model")
    rows = predicted(folder, "split=test")
    assert list(rows[0]) == ["index", "true", "next", "probability"]
    best = outputs_of(data, model)[:, :, -1].softmax(1).max(1)
    assert [row["next"] for row in rows] == [data.names[k] for k in best.indices.tolist()]
    assert [row["true"] for row in rows] == [data.names[k] for k in data.examples["test"].targets[:, -1].tolist()]
    torch.testing.assert_close(column(rows, "probability"), best.values, rtol=1e-5, atol=0)


def test_a_language_model_continues_a_prompt(
    run_of: Any, predicted: Callable[..., Rows], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data, model = run_of("language_model")
    (row,) = predicted(folder, "input=the cat ", "task.temperature=0", "task.sample_length=6")
    tokens = [data.names.index(letter) for letter in "the cat "]
    for _ in range(6):
        tokens.append(int(model(torch.tensor([tokens]))[0, :, -1].argmax()))
    assert row == {"input": "the cat ", "continuation": "".join(data.names[token] for token in tokens[8:])}
    assert capsys.readouterr().out == f"{row['continuation']}  the cat \n"
    first, second = (predicted(folder, "input=the cat ")[0]["continuation"] for _ in range(2))
    assert first == second
    assert len(first) == 100
    with pytest.raises(UserError, match=r"none of 1 texts could be read; the last is cat9: '9' is not one of"):
        predicted(folder, "input=cat9")


def test_other_tasks_have_a_flat_object_in_json(run_of: Any, predicted: Callable[..., Rows]) -> None:
    folder, _, _ = run_of("multilabel")
    predicted(folder, "split=test", "format=jsonl")
    lines = (folder / "predict" / "predictions.jsonl").read_text().splitlines()
    predicted(folder, "split=test")
    for line, row in zip(lines, read_rows(folder / "predict" / "predictions.csv"), strict=True):
        content = json.loads(line)
        assert {name: str(value) for name, value in content.items()} == pytest.approx(row)


class Parts(Task):
    """A task of a user's own: predictions under two names."""

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"sum": outputs.sum(1), "part": outputs, "map": outputs[:, None] * torch.ones(2, 1)}


def test_a_task_of_ones_own_gets_columns_files_and_true_targets_without_further_code() -> None:
    prediction = Parts().predict(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert Parts().columns(prediction, []) == {"sum": [3.0, 7.0], "part 0": [1.0, 3.0], "part 1": [2.0, 4.0]}
    assert Parts().columns(prediction, ["a", "b"]).keys() == {"sum", "part a", "part b"}
    assert Parts().files(prediction).keys() == {"map.npy"}
    assert Parts().true_columns(torch.tensor([5, 6]), ["a", "b"]) == {"true": [5, 6]}
    assert Parts().true_columns(torch.tensor([[5], [6]]), []) == {"true": [5, 6]}
    assert Parts().true_columns(torch.zeros(2, 3, 3), []) == Parts().true_columns({"a": torch.ones(2)}, []) == {}


# ---- files


def test_a_segmentation_writes_masks_as_images_of_classes(
    run_of: Any, predicted: Callable[..., Rows], caplog: pytest.LogCaptureFixture
) -> None:
    folder, data, model = run_of("segmentation")
    rows = predicted(folder, "split=test")
    assert list(rows[0]) == ["index", "mask", "share background", "share bright", "share dark"]
    masks = outputs_of(data, model).argmax(1)
    assert len(masks.unique()) > 1, "a constant mask shows nothing"
    for number, (row, mask) in enumerate(zip(rows, masks, strict=True)):
        assert row["mask"] == f"masks/{number}.png"
        image = Image.open(folder / "predict" / row["mask"])
        assert image.mode == "P"
        assert np.array(image).tolist() == mask.tolist()
        assert float(row["share dark"]) == pytest.approx(float((mask == 2).float().mean()), rel=1e-5)
    assert sorted(path.name for path in (folder / "predict").iterdir()) == ["masks", "predictions.csv"]
    assert len([*(folder / "predict" / "masks").iterdir()]) == len(rows)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        predicted(folder, "split=test", "output=-")
    (line,) = [message for message in caplog.messages if "files" in message]
    assert line == "6 masks are files, which standard output cannot hold: type output=<file> to get them"


def test_a_reconstructed_image_is_an_image_in_a_file(run_of: Any, predicted: Callable[..., Rows]) -> None:
    folder, data, model = run_of("reconstruction", "data.mean=0.25", "data.std=0.5")
    rows = predicted(folder, "split=test")
    assert list(rows[0]) == ["index", "reconstruction"]
    for row, output in zip(rows, outputs_of(data, model), strict=True):
        given = np.asarray(Image.open(folder / "predict" / row["reconstruction"]))
        assert row["reconstruction"].endswith(".png")
        expected = 255 * np.clip(0.5 * output[0].numpy() + 0.25, 0, 1)
        np.testing.assert_allclose(given, expected, atol=0.5001)


def test_a_reconstruction_that_is_no_image_is_an_array_in_a_file(
    run_of: Any, predicted: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data, model = run_of("reconstruction")
    monkeypatch.setattr("train_smarter.data.image_io.MODES", {3: ("RGB", "")})  # as of images of two channels
    rows = predicted(folder, "split=test")
    for row, expected in zip(rows, outputs_of(data, model), strict=True):
        given = np.load(folder / "predict" / row["reconstruction"])
        np.testing.assert_allclose(given, expected.numpy(), atol=1e-5)


def test_own_images_of_one_name_get_masks_of_their_own(
    run_of: Any, predicted: Callable[..., Rows], tmp_path: Path
) -> None:
    folder, _, _ = run_of("segmentation")
    for number, name in enumerate(("a/x.png", "a/x_2.png", "b/X.png", "b/y.d.png", "c/x.png")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((16, 16), 20, np.uint8)
        pixels[: number + 1] = 250
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    rows = predicted(folder, f"input={tmp_path}/photos/*/*.png")
    assert len({row["mask"].casefold() for row in rows}) == 5
    for row in rows:
        assert Path(row["mask"]).stem.casefold().startswith(Path(row["input"]).stem.casefold())
        assert (folder / "predict" / row["mask"]).is_file()


def test_a_file_is_named_by_its_input_its_line_or_its_index(tmp_path: Path) -> None:
    folders = PredictionFolders(tmp_path / "a.csv")

    def names(*id_columns: dict[str, Any]) -> Any:
        files: Files = {"mask.png": [b""] * len(id_columns)}
        return folders.write(predictor.Predictions([*id_columns], {}, files)).columns["mask"]

    inputs = ("a/x.png", "a/x_2.png", "b/X.png", "b/y.d.png", "c/x.png", "ä ö/../.png", "c/" + "z" * 300)
    assert names(*({"input": name} for name in inputs)) == [
        "masks/x.png",
        "masks/x_2.png",
        "masks/X_3.png",
        "masks/y.d.png",
        "masks/x_4.png",
        "masks/png.png",
        f"masks/{'z' * 100}.png",
    ]
    assert names({"index": 7}, {"line": 8, "input": "a text"}, {"other": 1}, {"input": ".."}) == [
        "masks/7.png",
        "masks/8.png",
        "masks/input.png",
        "masks/input_2.png",
    ]


def test_masks_of_an_output_elsewhere_lie_in_a_folder_of_its_name_and_nothing_is_lost(
    run_of: Any, predicted: Callable[..., Rows], tmp_path: Path
) -> None:
    folder, _, _ = run_of("segmentation")
    (tmp_path / "set" / "masks").mkdir(parents=True)
    (tmp_path / "set" / "masks" / "0.png").write_text("the true one")
    for _ in range(2):  # the second replaces the first
        predicted(folder, "split=test", f"output={tmp_path}/set/mine.csv")
        assert read_rows(tmp_path / "set" / "mine.csv")[0]["mask"] == "mine_masks/0.png"
        assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["masks", "mine.csv", "mine_masks"]
    assert (tmp_path / "set" / "masks" / "0.png").read_text() == "the true one"
    (tmp_path / "set" / "mine.csv").unlink()
    with pytest.raises(UserError, match=r"mine_masks exists, and its files would be lost: give another output="):
        predicted(folder, "split=test", f"output={tmp_path}/set/mine.csv")
    assert len([*(tmp_path / "set" / "mine_masks").iterdir()]) == 6


def test_a_prediction_that_fails_half_way_leaves_the_earlier_files_alone(tmp_path: Path) -> None:
    batch = predictor.Predictions([{"index": 0}], {"a": [1]}, {"mask.png": [b"new"]})
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "0.png").write_bytes(b"earlier")

    def interrupted(folders: PredictionFolders) -> None:
        with open_output(tmp_path / "a.csv") as file:
            assert write(file, "csv", [batch], quiet=True, folders=folders) == 1
            raise KeyboardInterrupt

    folders = PredictionFolders(tmp_path / "a.csv")
    with pytest.raises(KeyboardInterrupt):
        interrupted(folders)
    folders.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]
    assert (tmp_path / "masks" / "0.png").read_bytes() == b"earlier"


def test_a_link_in_the_place_of_the_masks_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "keep").touch()
    for name in ("masks", "masks.part"):
        (tmp_path / name).symlink_to(tmp_path / "other")
    folders = PredictionFolders(tmp_path / "a.csv")
    folders.write(predictor.Predictions([{"index": 0}], {}, {"mask.png": [b"new"]}))
    folders.publish()
    assert not (tmp_path / "masks").is_symlink()
    assert (tmp_path / "masks" / "0.png").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["keep"]


def test_a_mask_of_many_classes_has_16_bits(tmp_path: Path) -> None:
    mask = torch.tensor([[[0, 300], [65, 1]]])
    content = Segmentation(num_classes=301).files({"mask": mask})["mask.png"][0]
    (tmp_path / "mask.png").write_bytes(content)
    assert np.array(Image.open(tmp_path / "mask.png")).tolist() == mask[0].tolist()


def test_the_colors_of_classes_are_those_of_pascal_voc() -> None:
    assert [class_color(label) for label in range(6)] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
        (0, 0, 128),
        (128, 0, 128),
    ]
    assert len({class_color(label) for label in range(256)}) == 256


# ---- inputs of several tensors


class Pairs(Data):
    """Images with a table; the target is a number."""

    def read(self) -> Any:
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        torch.manual_seed(0)
        inputs = {"image": torch.rand(10, 1, 2, 2), "table": torch.randint(0, 5, (10, 3), dtype=torch.int16)}
        self.examples = {"test": Examples(inputs, torch.rand(10))}


class Both(Model):
    """Sums the image and the table."""

    def __init__(self) -> None:
        super().__init__(task=Regression())
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return (self.weight * inputs["image"].flatten(1).sum(1) + inputs["table"].float().sum(1))[:, None]


def test_inputs_may_be_a_dict_of_tensors() -> None:
    data, model = Pairs(eval_batch_size=4), Both().eval()
    batches = iter_split(data, "test", task=model.task, names=[])
    rows = [*predictor.predict(data, model, batches, device=torch.device("cpu"), names=[])]
    inputs = data.examples["test"].inputs
    expected = 2 * inputs["image"].sum((1, 2, 3)) + inputs["table"].sum(1)
    given = [value for batch in rows for value in batch.columns["prediction"]]
    assert given == pytest.approx(expected.tolist(), rel=1e-6)
    assert [row["true"] for batch in rows for row in batch.id_columns] == data.examples["test"].targets.tolist()


# ---- what does not fit


class Constant(Model):
    """Returns the same for any input."""

    def __init__(self, task: Task, outputs: Any) -> None:
        super().__init__(task=task)
        self.outputs = outputs

    def forward(self, inputs: Any) -> Any:  # noqa: ARG002
        return self.outputs


@pytest.mark.parametrize(
    ("task", "outputs", "message"),
    [
        (Classification(num_classes=3), torch.zeros(2, 4), r"float32 \(2, 4\), but Classification needs \(B, 3, ...\)"),
        (Classification(num_classes=3), torch.zeros(2), r"float32 \(2,\), but Classification needs \(B, 3, ...\)"),
        (
            Classification(num_classes=2),
            (torch.zeros(2, 1), None),
            r"\(float32 \(2, 1\), NoneType\), .* cannot use it: ",
        ),
        (Parts(), torch.zeros(3, 2), r"makes {sum: float32 \(3,\), .*} of it, for 2 examples"),
        (Regression(num_targets=2), {"a": torch.zeros(2, 2)}, r"{a: float32 \(2, 2\)}, but Regression cannot use it: "),
        (Multilabel(num_labels=2), torch.tensor([[0.0, torch.nan], [0.0, 0.0]]), r"outputs are no numbers \(NaN\)"),
        (Multilabel(num_labels=2), torch.tensor([[0.0, torch.inf], [0.0, 0.0]]), ""),
        (Classification(num_classes=3), torch.full((2, 3), torch.inf), r"outputs are no numbers \(NaN\)"),
    ],
)
def test_outputs_that_do_not_fit_the_task_are_named(task: Task, outputs: Any, message: str) -> None:
    network = predictor.CheckedNetwork(task, Constant(task, outputs))
    if not message:
        assert network.predict(torch.zeros(2, 1), 2)["probabilities"][0, 1] == 1
        return
    with pytest.raises(UserError, match=message):
        network.predict(torch.zeros(2, 1), 2)


class Short(Parts):
    """Its columns lack an example."""

    def columns(self, prediction: Any, names: Any) -> Any:  # noqa: ARG002
        return {"a": [1]}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Segmentation(num_classes=2), r"float32 \(2, 2\), but Segmentation cannot use it: "),
        (Short(), r"Short makes 1 values of a of it, for 2 examples"),
    ],
)
def test_columns_that_cannot_be_made_are_named(task: Task, message: str) -> None:
    data, batches = Data(), [([{"index": 0}, {"index": 1}], (torch.zeros(2, 1), None))]
    model = Constant(task, torch.zeros(2, 2))
    with pytest.raises(UserError, match=message):
        next(predictor.predict(data, model, batches, device=torch.device("cpu"), names=["a", "b"]))


def test_a_fault_of_the_network_keeps_its_traceback() -> None:
    task = Regression()
    network = predictor.CheckedNetwork(task, nn.Linear(3, 1))  # type: ignore[arg-type]
    for method in (None, task.predict_input, task.predict_split):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            network.predict(torch.zeros(2, 4), 2, method)


def test_inputs_of_different_lengths_come_in_batches_of_their_own() -> None:
    reader = InputReader(Letters(vocab_size=27), iter(["a cat", "a dog", "cats", "a bird"]))
    assert [len(id_columns) for id_columns, _ in reader] == [2, 1, 1]


def test_counts_are_those_of_the_run_only_where_it_counts_its_files(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data: {num_classes: 3, num_targets: null, shape: [7]}")
    cases = {"numbers": None, "letters": None, "blobs": 3, "digits": 10, "images": 3, "table": 3}
    for data, expected in cases.items():
        cfg = compose(f"data={data}", "run=x", verb="predict")
        before = OmegaConf.to_container(cfg.data, resolve=False)
        use_recorded_counts(cfg, tmp_path)
        assert cfg.data.get("num_classes") == expected
        if data == "table":
            assert cfg.data.shape == [7]
            assert cfg.data.num_targets is None
        elif data != "images":
            assert OmegaConf.to_container(cfg.data, resolve=False) == before


@pytest.mark.parametrize("planted", ["'${oc.env:SECRET}'", "'/etc'", "['${oc.env:SECRET}']", "{a: 1}", "true"])
def test_a_count_that_is_no_number_is_not_taken_from_a_run(compose: Compose, tmp_path: Path, planted: str) -> None:
    (tmp_path / "config.yaml").write_text(f"data: {{num_classes: {planted}}}")
    cfg = compose("data=table", "run=x", verb="predict")
    use_recorded_counts(cfg, tmp_path)
    assert OmegaConf.to_container(cfg.data, resolve=False)["num_classes"] == "${count_targets:num_classes}"  # type: ignore[index, call-overload]


# ---- a LightningModule without a task


class Net(LightningModule):
    """Knows nothing of this package."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * 2


class Loaders(LightningDataModule):
    """Knows nothing of this package."""

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.arange(3.0)[:, None], torch.tensor([5, 6, 7])), batch_size=2)

    def predict_dataloader(self) -> DataLoader[Any]:
        raise NotImplementedError


def test_a_plain_module_and_datamodule_predict_the_outputs(tmp_path: Path) -> None:
    data, model = Loaders(), Net().eval()
    batches = iter_split(data, "test", task=task_of(model), names=[])
    with (tmp_path / "a.jsonl").open("w") as file:
        for batch in predictor.predict(data, model, batches, device=torch.device("cpu"), names=[], format="jsonl"):
            JSONLines(file).add(batch)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines == [
        {"index": 0, "true": 5, "output": 0.0},
        {"index": 1, "true": 6, "output": 2.0},
        {"index": 2, "true": 7, "output": 4.0},
    ]
    with pytest.raises(UserError, match=r"Loaders has no val split; give another one, split=\.\.\."):
        next(iter_split(data, "val", task=task_of(model), names=[]))


def test_a_plain_module_with_several_outputs_names_each() -> None:
    task = task_of(Net())
    a, b = torch.zeros(2), torch.ones(2, 3)
    assert task.predict((a, [b])).keys() == {"output_0", "output_1"}
    assert task.predict({"x": a, "y": b, "note": "text"}).keys() == {"x", "y"}


def test_a_run_that_is_older_than_a_count_has_none(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data: {num_classes: 3}")
    cfg = compose("data=images", "run=x", verb="predict")
    use_recorded_counts(cfg, tmp_path)
    assert (cfg.data.num_classes, cfg.data.num_targets) == (3, None)
