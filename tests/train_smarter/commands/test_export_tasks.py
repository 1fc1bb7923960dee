"""Exported files of each kind of task."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from lightning import LightningDataModule, LightningModule
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from train_smarter.commands import export
from train_smarter.config.build import build_data, build_model
from train_smarter.data.base import Data
from train_smarter.data.examples import Examples, split_rows
from train_smarter.errors import UserError
from train_smarter.fit.module import Model
from train_smarter.inference import exporter
from train_smarter.inference.comparison import compare_export
from train_smarter.inference.exporter import (
    end_to_end,
    export_network,
    input_names,
    load_export,
    metadata,
    raw_examples,
)
from train_smarter.inference.predictor import task_of
from train_smarter.run.files import write_json
from train_smarter.task.base import Task
from train_smarter.task.classification import Classification
from train_smarter.task.regression import Regression

Compose = Callable[..., DictConfig]
ONNX = pytest.param("onnx", marks=pytest.mark.slow)


@pytest.fixture
def exported(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Path, Data, Model]]:
    """Export an untrained run of these overrides; return the file, the data and the model."""

    def run(kind: str, *words: str) -> tuple[Path, Data, Model]:
        folder, words = tmp_path / "run", (*words, "trainer=cpu")
        cfg = compose(*words)
        torch.manual_seed(1)
        data, model = build_data(cfg), build_model(cfg).eval()
        data.setup()
        model.task.fit([model.task.targets((data.examples["train"].inputs, data.examples["train"].targets))])
        (folder / ".hydra").mkdir(parents=True)
        (folder / "checkpoints").mkdir()
        OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
        OmegaConf.save(list(words), folder / ".hydra" / "overrides.yaml")
        write_json(folder / "preprocess.json", data.preprocess())
        torch.save({"state_dict": model.state_dict()}, folder / "checkpoints" / "best.ckpt")

        def command(name: str, act: Callable[[DictConfig], None], rewrite: Callable[..., list[str]]) -> None:
            seen = rewrite([f"run={folder}", f"format={kind}"])
            act(compose(*(word for word in seen if not word.startswith("hydra.")), verb=name))

        monkeypatch.setattr(export, "command", command)
        export.main()
        return folder / "export" / f"model{export.SUFFIXES[kind]}", data, model

    return run


@pytest.mark.parametrize(
    ("words", "said", "given", "outputs", "names"),
    [
        (
            ["data=numbers", "model=linear", "data.count=60"],
            r"largest difference of prediction on 12 test examples: \S+ \(of values up to \d+(\.\d+)?\)",
            "float32",
            {"prediction": 2},
            {"names": ["height", "weight"]},
        ),
        (
            ["data=tags", "model=linear", "data.count=60"],
            r"largest difference of a probability on 12 test examples: \S+; all get the same set of labels",
            "float32",
            {"probabilities": 2},
            {"class_names": ["red", "round", "rare"]},
        ),
        (
            ["data=blobs", "model=unet_tiny", "data.count=30"],
            r"largest difference of a probability on 6 test examples: \S+; all get the same mask",
            "uint8",
            {"mask": 3, "probabilities": 4},
            {"class_names": ["background", "bright", "dark"]},
        ),
        (
            ["data=letters", "model=gru", "data.count=40"],
            r"largest difference of a probability on 8 test examples: \S+; all get the same next token",
            "int64",
            {"next": 1, "probabilities": 2},
            {"names": [" ", *"abcdefghijklmnopqrstuvwxyz"]},
        ),
        (
            ["task=reconstruction", "task.output_per=pixel", "data=blobs", "model=unet_tiny", "data.count=30"],
            r"largest difference of reconstruction on 6 test examples: \S+( \(of values up to \S+\))?",
            "uint8",
            {"reconstruction": 4},
            {"class_names": ["background", "bright", "dark"]},
        ),
    ],
    ids=["regression", "multilabel", "segmentation", "language_model", "reconstruction"],
)
@pytest.mark.parametrize("kind", [ONNX, "torch"])
def test_every_task_is_exported_with_the_outputs_of_its_predict(
    exported: Any,
    kind: str,
    words: list[str],
    said: str,
    given: str,
    outputs: dict[str, int],
    names: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, data, model = exported(kind, *words)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(said, lines[1]), lines[1]
    about = read_metadata(file, kind)
    assert json.loads(about["input"])["dtype"] == given
    assert {name: len(end["shape"]) for name, end in json.loads(about["outputs"]).items()} == outputs
    assert {key: json.loads(about[key]) for key in ("names", "class_names") if key in about} == names
    raw = raw_examples(data, 3, model.task)
    results = load_export(file, format=kind)(raw)
    results = results if len(outputs) > 1 else {next(iter(outputs)): results}
    with torch.no_grad():
        inputs, _ = data.on_after_batch_transfer((raw, None), 0)
        expected = model.task.predict(model(inputs))
    assert results.keys() == expected.keys() == outputs.keys()
    for name in outputs:
        torch.testing.assert_close(results[name], expected[name], atol=1e-5, rtol=1e-5)


def read_metadata(file: Path, kind: str) -> dict[str, str]:
    if kind == "onnx":
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return dict(session.get_modelmeta().custom_metadata_map)
    about = dict.fromkeys(("input", "outputs", "names", "class_names"), "")
    torch.export.load(file, extra_files=about)
    return {key: value for key, value in about.items() if value}


# ---- inputs of several tensors


class Pairs(Data):
    """Images with a table; the target is a number."""

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


@pytest.mark.parametrize("kind", [ONNX, "torch"])
def test_a_file_names_each_of_several_inputs(kind: str, tmp_path: Path) -> None:
    data, model, file = Pairs(), Both().eval(), tmp_path / "model"
    raw = raw_examples(data, None, model.task)
    network = end_to_end(data, model, raw)
    about = metadata(data, raw, network)
    with exporter.silence_export():
        file.write_bytes(export_network(network, raw, format=kind, about=about))
    result = load_export(file, format=kind)(raw["image"][:7], raw["table"][:7])
    expected = 2 * raw["image"].sum((1, 2, 3)) + raw["table"].sum(1)
    torch.testing.assert_close(result[:, 0], expected[:7])
    assert json.loads(about["input"]) == {
        "image": {"dtype": "float32", "shape": ["batch", 1, 2, 2]},
        "table": {"dtype": "int64", "shape": ["batch", 3]},
    }
    assert compare_export(load_export(file, format=kind), network, split_rows(raw, 4)).examples == 10
    if kind == "onnx":
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        assert [end.name for end in session.get_inputs()] == ["image", "table"]
        assert [end.name for end in session.get_outputs()] == ["prediction"]


def test_inputs_are_named_by_their_keys_and_numbers() -> None:
    a = torch.zeros(1)
    assert input_names(a) == ["input"]
    assert input_names((a, a)) == ["input_0", "input_1"]
    assert input_names({"image": a, "meta": {"age": a, "list": [a, a]}}) == [
        "image",
        "meta_age",
        "meta_list_0",
        "meta_list_1",
    ]


# ---- what does not fit


class Wrong(Model):
    """Has a fixed number of outputs."""

    def forward(self, inputs: Any) -> Any:
        return inputs["image"].flatten(1)


def test_outputs_that_do_not_fit_the_task_are_answered_before_anything_is_written() -> None:
    data, model = Pairs(), Wrong(task=Classification(num_classes=3)).eval()
    raw = raw_examples(data, None, model.task)
    with pytest.raises(UserError, match=r"Wrong returns float32 \(2, 4\), but Classification needs \(B, 3, ...\)"):
        end_to_end(data, model, raw)
    with pytest.raises(UserError, match="takes tensors, but the inputs hold a str; nothing is written"):
        end_to_end(data, model, {"image": torch.zeros(2, 2), "name": "a"})


# ---- a LightningModule without a task


class Net(LightningModule):
    """Knows nothing of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)
        return outputs


class Loaders(LightningDataModule):
    """Knows nothing of this package."""

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.arange(10.0).view(5, 2), torch.zeros(5)), batch_size=2)


def test_a_plain_module_is_exported_with_its_forward(tmp_path: Path) -> None:
    data, model, file = Loaders(), Net().eval(), tmp_path / "model.pt2"
    raw = raw_examples(data, 3, task_of(model))
    assert raw.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert len(raw_examples(data, None, Task())) == 5
    network = end_to_end(data, model, raw)
    about = metadata(data, raw, network)
    assert json.loads(about["outputs"]) == {"output": {"dtype": "float32", "shape": ["batch", 1]}}
    with exporter.silence_export():
        file.write_bytes(export_network(network, raw, format="torch", about=about))
    result = compare_export(load_export(file, format="torch"), network, [raw])
    assert str(result).startswith("largest difference of output on 3 test examples: 0.0e+00")
