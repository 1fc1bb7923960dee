"""What the weights of a checkpoint mean travels with it, and is looked at wherever they are used."""

import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim import SGD

from sample_project.model.gru import GRU
from sample_project.model.linear import Linear
from sample_project.model.lstm import LSTM
from train_smarter.commands.train import fit
from train_smarter.config.build import Components
from train_smarter.data.base import Data
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.image_data import ImageData
from train_smarter.data.table_data import TableData
from train_smarter.data.text_data import TextData
from train_smarter.errors import UserError
from train_smarter.fit.module import Model
from train_smarter.history.restore import load_weights
from train_smarter.task.classification import Classification
from train_smarter.task.language_model import LanguageModel
from train_smarter.task.regression import Regression

STILL = partial(SGD, lr=0.0)
FIRST = ["good good good film", "good film was bad", "dull film bad", "dull plot good"]
SECOND = ["dull dull dull dull plot", "was was was it", "it bad it dull", "good plot it bad"]  # other ids


class Notes(TextData):
    """Four texts to train, validate and test with."""

    def __init__(self, texts: Sequence[str], names: Sequence[str] = ("bad", "good"), **data: Any) -> None:
        super().__init__(**{"num_classes": len(names), "vocab_size": 9, "max_length": 5, **data})
        self.texts, self.class_names = list(texts), list(names)

    def read(self) -> RawDataset:
        labels = torch.arange(4) % 2
        others = [Examples([f"{text} {split}" for text in self.texts], labels) for split in ("val", "test")]
        return RawDataset(self.class_names, Examples(self.texts, labels), *others)


class Dots(ImageData):
    """Images of 2x2 pixels, as many of each class."""

    def __init__(self, names: Sequence[str] = ("a", "b", "c"), **data: Any) -> None:
        super().__init__(**{"num_classes": len(names), "shape": [1, 2, 2], **data})
        self.class_names = list(names)

    def read(self) -> RawDataset:
        labels = torch.arange(12) % len(self.class_names)
        images = torch.arange(48, dtype=torch.uint8).view(12, 1, 2, 2)
        return RawDataset(self.class_names, *[Examples(images, labels)] * 3)


class Rows(TableData):
    """12 rows of two numbers, and targets that have names."""

    def __init__(
        self, names: Sequence[str] = ("y",), columns: Sequence[str] = ("p", "q"), shift: float = 0.0, **data: Any
    ) -> None:
        super().__init__(**{"num_targets": len(names), "shape": [2], **data})
        self.target_names, self.column_names, self.shift = list(names), list(columns), shift

    def read(self) -> RawDataset:
        self.columns = self.column_names
        inputs = torch.arange(24.0).view(12, 2) + self.shift
        targets = inputs[:, :1] * torch.arange(1, len(self.target_names) + 1)
        return RawDataset(self.target_names, *[Examples(inputs, targets)] * 3)


class Tokens(Data):
    """Windows of three tokens."""

    def __init__(self, names: str) -> None:
        super().__init__()
        self.letters = names

    def read(self) -> RawDataset:
        part = Examples(torch.tensor([[0, 1, 2], [2, 1, 0]]), torch.tensor([[1, 2, 0], [1, 0, 2]]))
        return RawDataset(list(self.letters), part, part, part)


class TwoHeads(Model):
    """Has weights of the classes beside those of its last layer."""

    def __init__(self, **model: Any) -> None:
        super().__init__(**model)
        self.prior = nn.Parameter(torch.randn(2, self.num_outputs))
        self.head = nn.Linear(4, self.num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.head(images.flatten(1)) + self.prior.sum(0)
        return outputs


def reader(classes: int = 2, vocab_size: int = 9, **model: Any) -> LSTM:
    chosen = Classification(num_classes=classes)
    small: dict[str, Any] = {"embedding_dim": 4, "hidden": 3, "fc_dim": 3}
    return LSTM(vocab_size=vocab_size, task=chosen, optimizer=STILL, **small, **model)


def two_heads(classes: int = 3, **model: Any) -> TwoHeads:
    return TwoHeads(task=Classification(num_classes=classes), optimizer=STILL, **model)


def linear(targets: int = 1, scale: bool = True, **model: Any) -> Linear:
    return Linear(shape=[2], task=Regression(num_targets=targets, scale_targets=scale), optimizer=STILL, **model)


def trained(data: Data, model: Model, **options: Any) -> lightning.Trainer:
    """Train for an epoch that changes nothing, as the command does."""
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[],
        enable_checkpointing=False,
        max_epochs=1,
    )
    fit(Components(data, model, trainer), monitor="val/loss", **{"test": not options.get("train", True), **options})
    return trainer


def saved(folder: Path, data: Data, model: Model) -> str:
    """The checkpoint of a run, away from its folder."""
    file = folder / "elsewhere.ckpt"
    trained(data, model).save_checkpoint(file, weights_only=False)
    return str(file)


def outputs(data: TextData, model: Model, text: str) -> Tensor:
    result: Tensor = model.eval()(data.encode_texts([text]))
    return result


# ---- texts


def test_weights_that_know_other_ids_of_the_words_read_texts_as_before(tmp_path: Path) -> None:
    first, model = Notes(FIRST), reader()
    path = saved(tmp_path, first, model)
    second, later = Notes(SECOND), reader(pretrained=path)
    trained(second, later)
    for text in (*FIRST, *SECOND):
        assert outputs(second, later, text).equal(outputs(first, model, text))
    assert second.examples["train"].inputs.tolist() == first.encode_texts(SECOND).tolist()


def test_a_checkpoint_is_evaluated_with_its_own_vocabulary(tmp_path: Path) -> None:
    first, model = Notes(FIRST), reader()
    path = saved(tmp_path, first, model)
    second = Notes(SECOND)
    trained(second, reader(), train=False, ckpt_path=path)
    assert second.tokenizer_json == first.tokenizer_json


def test_a_longer_cut_of_texts_is_kept_with_the_vocabulary_of_a_checkpoint(tmp_path: Path) -> None:
    first = Notes(FIRST)
    path = saved(tmp_path, first, reader())
    second = Notes(SECOND, max_length=7)
    trained(second, reader(pretrained=path))
    assert second.examples["train"].inputs.shape == (4, 7)
    assert second.tokenizer.get_vocab() == first.tokenizer.get_vocab()


def test_too_few_ids_for_the_vocabulary_of_a_checkpoint_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Notes(FIRST), reader())  # good, film, bad, dull, was, plot and two more ids
    with pytest.raises(UserError, match=r"model.pretrained=.*data.vocab_size=5, .* knows 8 ids: .* at least 8"):
        trained(Notes(SECOND, vocab_size=5), reader(vocab_size=5, pretrained=path))


def test_texts_that_are_encoded_already_by_other_ids_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Notes(FIRST), reader())
    data = Notes(SECOND)
    data.setup()
    with pytest.raises(UserError, match="another vocabulary than Notes, whose texts are encoded already"):
        lightning.Trainer(accelerator="cpu", logger=False, max_epochs=1).fit(reader(pretrained=path), datamodule=data)


def test_other_tokens_of_a_language_model_are_refused(tmp_path: Path) -> None:
    def model(**options: Any) -> GRU:
        return GRU(vocab_size=3, task=LanguageModel(vocab_size=3), optimizer=STILL, hidden=2, **options)

    path = saved(tmp_path, Tokens("abc"), model())
    trained(Tokens("abc"), model(pretrained=path))
    with pytest.raises(UserError, match="predicts other tokens than these data have, or in another order"):
        trained(Tokens("cab"), model(pretrained=path))


# ---- classes


def test_rows_of_classes_move_by_their_names_wherever_the_model_has_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = two_heads()
    path = saved(tmp_path, Dots("abc"), first)
    second = two_heads(4, pretrained=path)
    fresh = {name: value.clone() for name, value in second.state_dict().items()}
    trained(Dots("cxab"), second)
    own, then = second.state_dict(), first.state_dict()
    for new, old in ((0, 2), (2, 0), (3, 1)):  # c, a and b
        assert own["head.weight"][new].equal(then["head.weight"][old])
        assert own["head.bias"][new].equal(then["head.bias"][old])
        assert own["prior"][:, new].equal(then["prior"][:, old])
    assert own["head.weight"][1].equal(fresh["head.weight"][1])
    assert own["prior"][:, 1].equal(fresh["prior"][:, 1])
    told = caplog.text
    assert f"3 of 3 weights start from {path}; prior, head.weight, head.bias: rows of c, a, b by name; x starts" in told


def test_two_classes_in_another_order_start_afresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They have one row between them, whose sign tells them apart."""
    caplog.set_level(logging.INFO)
    path = saved(tmp_path, Notes(FIRST), reader())
    second = reader(pretrained=path)
    fresh = second.state_dict()["head.3.weight"].clone()
    trained(Notes(FIRST, names=("good", "bad")), second)
    assert second.state_dict()["head.3.weight"].equal(fresh)
    assert "head.3.weight, head.3.bias: good, bad start afresh" in caplog.text


def test_a_checkpoint_of_other_classes_is_not_evaluated(tmp_path: Path) -> None:
    path = saved(tmp_path, Dots("abc"), two_heads())
    for options in ({"train": False}, {"train": True}):
        with pytest.raises(
            UserError, match=r"has the classes \['b', 'a', 'c'\], but the run was trained on \['a', 'b'"
        ):
            trained(Dots("bac"), two_heads(), ckpt_path=path, **options)


def test_a_checkpoint_of_other_classes_is_refused_by_a_plain_trainer(tmp_path: Path) -> None:
    path = saved(tmp_path, Dots("abc"), two_heads())
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    with pytest.raises(UserError, match="but the run was trained on"):
        trainer.test(two_heads(), datamodule=Dots("bac"), ckpt_path=path, weights_only=True)


# ---- numbers


@pytest.mark.parametrize("start", ["pretrained", "ckpt_path"])
def test_images_are_normalized_as_the_checkpoint_knows_them(
    tmp_path: Path, start: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path, Dots(mean=0.25, std=0.125), two_heads())
    data = Dots()  # mean and std 0.5
    caplog.set_level(logging.WARNING)
    if start == "pretrained":
        trained(data, two_heads(pretrained=path))
    else:
        trained(data, two_heads(), train=False, ckpt_path=path)
    assert (data.preprocess()["mean"], data.preprocess()["std"]) == ([0.25], [0.125])
    told = "the normalization of the given weights is used: mean [0.25], std [0.125] instead of mean [0.5], std [0.5]"
    assert caplog.text.count(told) == 1


def test_images_of_other_channels_keep_their_normalization(tmp_path: Path) -> None:
    path = saved(tmp_path, Dots(mean=0.25), two_heads())
    data = Dots()
    data.shape, data.mean = (2, 2, 2), [0.5, 0.5]
    data.adopt_inputs(torch.load(path, weights_only=True)["Dots"]["preprocess"])
    assert data.mean == [0.5, 0.5]


def test_tables_are_standardized_as_the_checkpoint_knows_them(tmp_path: Path) -> None:
    path = saved(tmp_path, Rows(), linear())
    data = Rows(shift=100.0)
    trained(data, linear(pretrained=path))
    assert data.preprocess()["mean"] == [11.0, 12.0]  # of 0, 2, ..., 22 and 1, 3, ..., 23
    raw = Rows(standardize=False)
    trained(raw, linear(), train=False, ckpt_path=path)
    assert raw.on_after_batch_transfer((torch.tensor([[11.0, 12.0]]), None), 0)[0].tolist() == [[0.0, 0.0]]


def test_columns_in_another_order_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Rows(), linear())
    told = "trained on the columns p, q, but Rows has q, p: give the same columns in the same order"
    with pytest.raises(UserError, match=told):
        trained(Rows(columns=("q", "p")), linear(pretrained=path))
    with pytest.raises(UserError, match=told):
        trained(Rows(columns=("q", "p")), linear(), train=False, ckpt_path=path)


def test_the_scale_of_a_target_moves_with_its_row(tmp_path: Path) -> None:
    first = linear(2)
    path = saved(tmp_path, Rows(("y", "z")), first)
    second = linear(2, pretrained=path)
    trained(Rows(("w", "y"), shift=1.0), second)
    assert second.head.weight[1].equal(first.head.weight[0])
    assert [round(float(value), 4) for value in second.task.mean] == [12.0, 11.0]  # type: ignore[union-attr]


def test_outputs_of_another_scale_are_refused(tmp_path: Path) -> None:
    data, model = Rows(), linear()
    path = saved(tmp_path, data, model)
    told = r"task.scale_targets=false, .* trained with true.* type task.scale_targets=true"
    with pytest.raises(UserError, match=told):
        trained(Rows(), linear(scale=False, pretrained=path))
    with pytest.raises(UserError, match=told):
        trained(Rows(), linear(scale=False), train=False, ckpt_path=path)
    with pytest.raises(UserError, match=r"type task.scale_targets=true"):
        load_weights(Rows(), linear(scale=False), tmp_path, Path(path))


def test_another_kind_of_data_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Notes(FIRST), reader())
    with pytest.raises(UserError, match=r"was not trained on data as Rows reads them: its preprocessing lacks 'mean'"):
        trained(Rows(), linear(pretrained=path))


# ---- files


def without_preprocess(path: str, target: Path) -> str:
    """A checkpoint as older runs saved them."""
    content = torch.load(path, weights_only=True)
    target.parent.mkdir(exist_ok=True)
    torch.save({key: value for key, value in content.items() if key != "Notes"}, target)
    return str(target)


def test_a_checkpoint_of_an_older_run_is_compared_with_the_file_in_its_folder(tmp_path: Path) -> None:
    first = Notes(FIRST)
    path = without_preprocess(saved(tmp_path, first, reader()), tmp_path / "checkpoints" / "best.ckpt")
    (tmp_path / "preprocess.json").write_text(json.dumps(first.preprocess()))
    second = Notes(SECOND)
    trained(second, reader(pretrained=path))
    assert second.tokenizer_json == first.tokenizer_json


def test_a_checkpoint_that_means_nothing_known_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = without_preprocess(saved(tmp_path, Notes(FIRST), reader()), tmp_path / "checkpoints" / "best.ckpt")
    second = Notes(SECOND)
    trained(second, reader(pretrained=path))
    assert f"{path} does not hold the preprocessing of its run" in caplog.text
    assert second.tokenizer.token_to_id("it") is not None  # its own words


def test_a_file_of_another_run_brings_its_own_preprocessing(tmp_path: Path) -> None:
    path = saved(tmp_path, Dots(mean=0.25), two_heads())
    (tmp_path / "preprocess.json").write_text(json.dumps({"names": ["x"], "mean": [0.75], "std": [0.5]}))
    data = Dots()
    load_weights(data, two_heads(), tmp_path, Path(path))
    assert (data.names, data.mean) == (["a", "b", "c"], [0.25])


def test_every_checkpoint_has_it_as_plain_values(tmp_path: Path) -> None:
    data, model = Dots(), two_heads()
    data.class_names = [*torch.tensor([1, 2, 3]).numpy().astype(str)]  # strings of NumPy
    for weights_only in (False, True):
        keep = ModelCheckpoint(dirpath=tmp_path, filename=f"{weights_only}", save_weights_only=weights_only)
        trainer = lightning.Trainer(accelerator="cpu", logger=False, max_epochs=1, callbacks=[keep])
        trainer.fit(model, datamodule=data)
        content = torch.load(tmp_path / f"{weights_only}.ckpt", weights_only=True)
        assert content["Dots"]["preprocess"]["names"] == ["1", "2", "3"]
