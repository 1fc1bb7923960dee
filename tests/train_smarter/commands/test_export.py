import importlib.util
import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from sample_project.data.digits import Digits
from sample_project.model.cnn import CNN
from sample_project.model.mlp import MLP
from train_smarter import paths
from train_smarter.commands import export
from train_smarter.config.build import build_data, build_model
from train_smarter.data.base import Data
from train_smarter.data.examples import Examples
from train_smarter.errors import UserError
from train_smarter.fit.module import Model
from train_smarter.inference import exporter
from train_smarter.inference.comparison import Comparison, compare_export
from train_smarter.inference.exporter import (
    end_to_end,
    export_network,
    load_export,
    metadata,
    raw_examples,
)
from train_smarter.run.files import write_json
from train_smarter.task.base import Task
from train_smarter.task.classification import Classification
from train_smarter.task.regression import Regression
from train_smarter.task.segmentation import Segmentation

Compose = Callable[..., DictConfig]
Keep = Callable[..., Path]
Act = Callable[..., None]

# The sample project's models, so small that exporting is all that takes time.
SMALL: dict[str, list[str]] = {
    "cnn": ["data.size=12", "model.batch_norm=true"],
    "lstm": ["data=phrases", "data.max_length=5", "model.hidden=4", "model.bidirectional=true"],
    "mlp": ["data.size=12", "model.batch_norm=true"],
}


def fresh(compose: Compose, *overrides: str) -> tuple[Data, Model]:
    """Data and an untrained model whose every number is drawn, a norm's factors and statistics too."""
    cfg = compose(*overrides)
    torch.manual_seed(0)
    data, model = build_data(cfg), build_model(cfg).eval()
    data.prepare_data()
    data.setup()
    for name, values in model.state_dict().items():
        if values.is_floating_point():
            factor = name.endswith(("running_var", "weight")) and values.ndim == 1
            values.uniform_(0.5, 1.5) if factor else values.normal_(std=0.2)
    return data, model


@pytest.fixture
def kept(compose: Compose, tmp_path: Path) -> Keep:
    """Makes the folder of a past run, as a training with these overrides leaves it, without training."""

    def keep(*overrides: str) -> Path:
        folder = tmp_path / "past"
        data, model = fresh(compose, *overrides)
        write_json(folder / "preprocess.json", data.preprocess())
        (folder / ".hydra").mkdir()
        OmegaConf.save(compose(*overrides), folder / ".hydra" / "config.yaml")
        OmegaConf.save(list(overrides), folder / ".hydra" / "overrides.yaml")
        (folder / "checkpoints").mkdir()
        torch.save({"state_dict": model.state_dict()}, folder / "checkpoints" / "best.ckpt")
        return folder

    return keep


@pytest.fixture
def act(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> Act:
    """`export-model run=<folder> ...`, in this process."""

    def run(folder: Path, *typed: str) -> None:
        def command(name: str, verb: Callable[[DictConfig], None], words: Callable[..., list[str]]) -> None:
            seen = words([f"run={folder}", *typed])
            verb(compose(*(word for word in seen if not word.startswith("hydra.")), verb=name))

        monkeypatch.setattr(export, "command", command)
        export.main()

    return run


# ---- what is exported


@pytest.mark.parametrize("model", SMALL)
@pytest.mark.parametrize(
    "kind", [pytest.param("onnx", marks=pytest.mark.slow), "torch"]
)  # the first also does the second
def test_every_model_gives_the_same_probabilities_from_its_file_at_any_batch_size(
    compose: Compose, tmp_path: Path, model: str, kind: str
) -> None:
    data, network = fresh(compose, f"model={model}", *SMALL[model])
    raw = raw_examples(data, None, network.task)
    module = end_to_end(data, network, raw)
    if raw.dtype == torch.int64:
        raw = torch.where(torch.rand(raw.shape) < 0.3, 0, raw)  # gaps between words
        raw[5] = 0  # a text of nothing else
    file = tmp_path / f"model.{kind}"
    with exporter.silence_export():
        file.write_bytes(export_network(module, raw, format=kind, about={}))
        again = load_export(file, format=kind)
    for size in (1, 2, 7, 50):  # within the tolerance of conf/export.yaml
        assert compare_export(again, module, raw[: 2 * size].split(size)).largest < 1e-4, f"{size} at once"
    with torch.no_grad():
        assert float((again(raw) - module(raw.flip(0))).abs().max()) > 1e-3, "it does not look at its input"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A CNN's ONNX file, and what it was made of."""
    data = Digits(num_classes=10, shape=[1, 12, 12], size=12, mean=0.3, std=0.2)
    data.setup()
    data.names[3] = "drei, „3“"
    torch.manual_seed(0)
    model = CNN(shape=[1, 12, 12], task=Classification(num_classes=10)).eval()
    file = tmp_path_factory.mktemp("digits") / "model.onnx"
    raw = raw_examples(data, None, model.task)
    network = end_to_end(data, model, raw)
    with exporter.silence_export():
        file.write_bytes(export_network(network, raw, format="onnx", about=metadata(data, raw, network)))
    return SimpleNamespace(data=data, model=model, file=file, raw=raw)


@torch.no_grad()
def test_bytes_go_in_and_probabilities_come_out(digits: SimpleNamespace) -> None:
    by_hand = digits.model((digits.raw / 255 - 0.3) / 0.2).softmax(1)
    assert digits.raw.dtype == torch.uint8
    torch.testing.assert_close(load_export(digits.file, format="onnx")(digits.raw), by_hand, atol=1e-6, rtol=0)


def test_the_file_says_what_goes_in_and_what_comes_out(digits: SimpleNamespace) -> None:
    session = onnxruntime.InferenceSession(digits.file, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == ["0", "1", "2", "drei, „3“", "4", "5", "6", "7", "8", "9"]
    assert json.loads(about["input"]) == {"dtype": "uint8", "shape": ["batch", 1, 12, 12]}
    ends = [(end.name, end.type, end.shape) for end in (*session.get_inputs(), *session.get_outputs())]
    assert ends == [
        ("input", "tensor(uint8)", ["batch", 1, 12, 12]),
        ("probabilities", "tensor(float)", ["batch", 10]),
    ]


def test_the_file_does_not_tell_where_it_was_made(digits: SimpleNamespace) -> None:
    content = digits.file.read_bytes()
    assert not [root for root in (paths.ROOT, paths.ENGINE) if str(root).encode() in content]
    assert b"stack_trace" not in content


def test_the_guides_recipe_classifies_an_image_without_this_package(
    digits: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = paths.ENGINE.parents[1] / "docs" / "guide.md"
    if not guide.is_file():
        pytest.skip("this project has no docs/guide.md")
    blocks = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf8"), re.DOTALL)
    recipe = next(block for block in blocks if "onnxruntime" in block)
    monkeypatch.chdir(tmp_path)
    shutil.copy(digits.file, "model.onnx")
    Image.fromarray(digits.raw[0, 0].numpy()).convert("RGB").save("photo.png")
    exec(recipe, {})
    with torch.no_grad():
        probabilities = end_to_end(digits.data, digits.model, digits.raw)(digits.raw[:1])[0]
    name, probability = capsys.readouterr().out.rsplit(maxsplit=1)
    assert name == digits.data.names[int(probabilities.argmax())]
    assert float(probability) == pytest.approx(float(probabilities.max()), abs=1e-6)
    assert "train_smarter" not in recipe


def test_examples_are_spread_evenly_over_the_test_split() -> None:
    data, task = Data(), Task()
    data.examples = {"test": Examples(torch.arange(10, dtype=torch.int16)[:, None])}
    assert raw_examples(data, 4, task).tolist() == [[0], [2], [5], [7]]  # 0, 2.5, 5, 7.5, rounded down
    assert raw_examples(data, 99, task).tolist() == raw_examples(data, None, task).tolist() == [[i] for i in range(10)]
    assert raw_examples(data, 1, task).dtype == torch.int64


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.uint8, torch.uint8),
        (torch.bool, torch.bool),
        (torch.int32, torch.int64),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_an_exported_file_takes_numbers_as_the_examples_are(given: torch.dtype, expected: torch.dtype) -> None:
    data = Data()
    data.examples = {"test": Examples({"a": torch.ones(3, 2, dtype=given)})}
    assert raw_examples(data, None, Task())["a"].dtype == expected


class Stubborn(MLP):
    """Its way depends on what it sees."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() > 0 else -images)


def test_a_model_that_cannot_be_exported_is_answered_with_the_reason() -> None:
    data, raw = Digits(num_classes=10, shape=[1, 12, 12], size=12), torch.zeros(3, 1, 12, 12, dtype=torch.uint8)
    module = end_to_end(data, Stubborn(shape=[1, 12, 12], task=Classification(num_classes=10)).eval(), raw)
    with (
        exporter.silence_export(),
        pytest.raises(UserError, match=r"Stubborn cannot be exported, format=torch: .*data-dependent"),
    ):
        export_network(module, raw, format="torch", about={})


# ---- from a run's folder to the file


MLP_RUN = ("model=mlp", "data.size=12")


def test_a_run_is_exported_into_its_folder_and_the_largest_difference_is_said(
    kept: Keep, act: Act, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = kept(*MLP_RUN)
    act(folder, "format=torch", "examples=50")
    about = dict.fromkeys(("class_names", "input", "outputs", "run", "checkpoint"), "")
    torch.export.load(folder / "export" / "model.pt2", extra_files=about)
    assert json.loads(about["class_names"]) == [str(digit) for digit in range(10)]
    assert json.loads(about["input"]) == {"dtype": "uint8", "shape": ["batch", 1, 12, 12]}
    assert json.loads(about["outputs"]) == {"probabilities": {"dtype": "float32", "shape": ["batch", 10]}}
    assert (about["run"], about["checkpoint"]) == ("past", "best.ckpt")
    assert [file.name for file in (folder / "export").iterdir()] == ["model.pt2"]
    content = (folder / "export" / "model.pt2").read_bytes()
    assert not [root for root in (paths.ROOT, paths.ENGINE) if str(root).encode() in content]
    out = capsys.readouterr().out
    assert "largest difference of a probability on 50 test examples: " in out
    assert "; all get the same class" in out
    assert f"written to {folder / 'export' / 'model.pt2'}" in out


@pytest.mark.slow
def test_a_text_model_carries_the_tokenizer_of_its_run(kept: Keep, act: Act, compose: Compose, tmp_path: Path) -> None:
    run = ("data=phrases", "data.max_length=5", "model=lstm", "model.hidden=4", "model.bidirectional=true")
    folder, target = kept(*run), tmp_path / "new, [1]" / "it's.onnx"
    act(folder, f"output={target}")
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == ["negative", "positive"]
    assert json.loads(about["input"]) == {"dtype": "int64", "shape": ["batch", 5]}
    texts = ["the plot was not good", "just so lovely and then some more", "good"]
    tokens = torch.tensor([Tokenizer.from_str(about["tokenizer"]).encode(text).ids for text in texts])
    data, model = fresh(compose, *run)
    assert torch.equal(tokens, data.encode_texts(texts))  # type: ignore[attr-defined]
    tokens[0, 1:3] = 0  # a gap: the words behind it move up in their order
    with torch.no_grad():
        positive = model(tokens)[:, 0].sigmoid()
    given = torch.from_numpy(session.run(["probabilities"], {"input": tokens.numpy()})[0])
    torch.testing.assert_close(given, torch.stack([1 - positive, positive], 1), atol=1e-6, rtol=0)


def off_by(difference: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every exported file then gives other probabilities than its checkpoint."""
    networks = []

    def pretended(network: Any, raw: Tensor, **rest: Any) -> bytes:  # noqa: ARG001
        networks.append(network)
        return b"a network"

    def wrong(file: Path, **rest: Any) -> Any:  # noqa: ARG001
        assert file.read_bytes() == b"a network"
        return lambda raw: networks[0](raw) + difference

    monkeypatch.setattr(export, "export_network", pretended)
    monkeypatch.setattr(export, "load_export", wrong)


def test_a_file_that_is_off_by_more_than_the_tolerance_is_refused_and_removed(
    kept: Keep, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kept(*MLP_RUN)
    for difference, said in ((2e-4, "2.0e-04"), (-2e-4, "2.0e-04"), (math.nan, "nan")):
        off_by(difference, monkeypatch)
        with pytest.raises(UserError, match=f"refused, nothing is written: tolerance=0.0001, but .*: {said}"):
            act(folder, "format=torch")
        assert not [*(folder / "export").iterdir()]
    off_by(2e-4, monkeypatch)
    act(folder, "format=torch", "tolerance=3e-4")
    assert [file.name for file in (folder / "export").iterdir()] == ["model.pt2"]


def compared(task: Task, given: dict[str, Tensor], wanted: dict[str, Tensor], sizes: Sequence[int]) -> Comparison:
    """Compare two networks whose outputs are these rows, in batches of these sizes."""

    class Rows(dict[str, Tensor]):
        outputs, decisions = wanted, staticmethod(task.decisions)

        def __call__(self, index: Tensor) -> dict[str, Tensor]:
            return {name: values[index] for name, values in self.items()}

    return compare_export(Rows(given), Rows(wanted), torch.arange(sum(sizes)).split(list(sizes)))


def test_a_predicted_class_that_differs_is_counted() -> None:
    given = torch.tensor([[0.6, 0.4], [0.5, 0.5], [0.2, 0.8]])
    wanted = torch.tensor([[0.3, 0.7], [0.75, 0.25], [0.2, 0.8]])
    task = Classification(num_classes=2)
    result = compared(task, {"probabilities": given}, {"probabilities": wanted}, [1, 2])
    # |0.6 - 0.3| = 0.3 and |0.5 - 0.75| = 0.25; of the two 0.5 the first counts, as class 0
    assert result.largest == pytest.approx(0.3)
    assert str(result) == "largest difference of a probability on 3 test examples: 3.0e-01; 1 get another class"


def test_a_difference_counts_as_a_share_of_large_values() -> None:
    wanted = torch.tensor([[200.0, 0.5], [100.0, -400.0]])
    given = torch.tensor([[200.25, 0.5], [100.0, -400.0]])
    result = compared(Regression(num_targets=2), {"prediction": given}, {"prediction": wanted}, [2])
    assert result.largest == pytest.approx(0.25 / 400)
    assert str(result) == "largest difference of prediction on 2 test examples: 2.5e-01 (of values up to 400)"


def test_masks_are_compared_by_example_and_their_probabilities_decide() -> None:
    mask = torch.zeros(3, 2, 2, dtype=torch.long)
    other = mask.clone()
    other[1] = 1  # four pixels of one example
    probabilities = torch.full((3, 2, 2, 2), 0.5)
    task = Segmentation(num_classes=2)
    given, wanted = ({"mask": each, "probabilities": probabilities} for each in (other, mask))
    result = compared(task, given, wanted, [2, 1])
    assert result.largest == 0
    assert str(result) == "largest difference of a probability on 3 test examples: 0.0e+00; 1 get another mask"


def test_without_numbers_the_share_of_other_decisions_is_held_against_the_tolerance() -> None:
    result = compared(Task(), {"token": torch.tensor([1, 2, 3, 4])}, {"token": torch.tensor([1, 2, 3, 5])}, [3, 1])
    assert result.largest == 0.25
    assert str(result) == "compared on 4 test examples; 1 get another token"


def test_equal_infinities_do_not_differ_and_nan_always_does() -> None:
    wanted = torch.tensor([[math.inf], [1.0]])
    assert compared(Task(), {"a": wanted}, {"a": wanted}, [1, 1]).largest == 0
    assert compared(Task(), {"a": wanted - torch.tensor([[0.0], [0.5]])}, {"a": wanted}, [2]).largest == 0.5
    broken = torch.tensor([[math.nan], [1.0]])
    for given, right in ((broken, broken), (broken, wanted), (wanted, broken)):
        assert math.isnan(compared(Task(), {"a": given}, {"a": right}, [1, 1]).largest)


# ---- what is refused


@pytest.fixture
def bare(compose: Compose, tmp_path: Path) -> Path:
    """A run's folder in which there is nothing but a config: what is refused is refused before anything is read."""
    (tmp_path / "bare" / ".hydra").mkdir(parents=True)
    OmegaConf.save(compose(*MLP_RUN), tmp_path / "bare" / ".hydra" / "config.yaml")
    return tmp_path / "bare"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("format=onxx", "format=onxx: give onnx or torch; did you mean 'onnx'?"),
        ("format=", "format=: give onnx or torch"),
        ("examples=0", "examples=0: give a whole number of at least 1, or null"),
        ("examples=some", "examples='some': give a whole number of at least 1, or null"),
        ("tolerance=-1", "tolerance=-1: give a finite number of at least 0"),
        ("tolerance=null", "tolerance=None: give a finite number of at least 0"),
        ("output=model.pt2", "output=model.pt2: a file of format=onnx ends in .onnx; type output=model.pt2/model.onnx"),
        ("output=", "output=: a file of format=onnx ends in .onnx; type output=model.onnx"),
        ("output=models", "output=models: a file of format=onnx ends in .onnx; type output=models/model.onnx"),
        ("checkpoint=first", "checkpoint=first: {} has no checkpoint; type checkpoint=<file>"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_ones(bare: Path, act: Act, word: str, message: str) -> None:
    with pytest.raises(UserError) as answer:
        act(bare, word)
    assert str(answer.value) == message.format(bare)


def test_a_missing_package_is_answered_with_what_installs_it(
    bare: Path, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "onnx" in name else there(name))
    with pytest.raises(UserError, match=r"\(onnx, onnxruntime, onnxscript\): uv pip install -e '\.\[onnx\]'"):
        act(bare)
    with pytest.raises(UserError, match="no checkpoint"):  # the next thing that is asked for
        act(bare, "format=torch")


def test_a_place_that_cannot_be_written_is_answered_with_the_reason(kept: Keep, act: Act, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"model\.pt2( cannot be written)?: .+; output=<file> puts it elsewhere"):
        act(kept(*MLP_RUN), "format=torch", f"output={tmp_path / 'file' / 'model.pt2'}")
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_run_cannot_say_where_its_file_goes(bare: Path, act: Act, tmp_path: Path) -> None:
    OmegaConf.save([f"+output={tmp_path}/elsewhere.onnx"], bare / ".hydra" / "overrides.yaml")
    with pytest.raises(UserError, match="is refused: only you may set output"):
        act(bare)


def test_data_that_are_gone_are_named(kept: Keep, act: Act, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(10):
            Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(tmp_path / "pets" / name / f"{number}.png")
    folder = kept("model=mlp", "data=images", f"data.dir={tmp_path}/pets", "data.size=8")
    shutil.rmtree(tmp_path / "pets")
    with pytest.raises(UserError, match="pets is not a folder"):
        act(folder)
