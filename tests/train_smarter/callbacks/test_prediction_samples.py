import base64
import html
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from train_smarter.callbacks.prediction_samples import PredictionSamples
from train_smarter.data.text_data import TextData
from train_smarter.errors import UserError
from train_smarter.fit.module import Model
from train_smarter.report.figures import GREEN, RED, confusion_figure, pixels, samples_figure, samples_table
from train_smarter.run.files import read_json
from train_smarter.task.base import Task
from train_smarter.task.classification import Classification
from train_smarter.task.samples.base import Kept, Samples
from train_smarter.task.samples.classification import ClassificationSamples, sample_entry
from train_smarter.task.samples.views import MAX_TEXT, SIDE, png
from train_smarter.task.split_metric import SplitMetric

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*can be a significant slow")

NAMES = ["cat", "dog", "cow"]


class Bright(Model):
    """Believes in the class of the brightest of an example's first three numbers."""

    def __init__(self, task: Task | None = None) -> None:
        super().__init__(task=task or Classification(num_classes=3))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scale * inputs.flatten(1)[:, :3].float()


class Tiny(LightningDataModule):
    """Two batches a split: of every five examples the first two are taken for the next class."""

    def __init__(self, *shape: int, splits: tuple[str, ...] = ("test",)) -> None:
        super().__init__()
        self.shape, self.splits = shape, splits
        self.names, self.mean, self.std = NAMES, [0.5], [0.5]

    def test_dataloader(self) -> list[DataLoader]:
        labels = torch.arange(10) % 3
        believed = (labels + (torch.arange(10) % 5 < 2)) % 3
        inputs = torch.zeros(10, *self.shape)
        inputs.view(10, -1)[torch.arange(10), believed] = torch.arange(1.0, 11.0)  # later ones surer
        others = [DataLoader(TensorDataset(100 + inputs, labels), batch_size=5) for _ in self.splits[1:]]
        return [*others, DataLoader(TensorDataset(inputs, labels), batch_size=5)]


class Words(Tiny):
    def decode(self, tokens: Tensor) -> str:
        return " ".join(f"w{int(token)}" for token in tokens)


def evaluated(folder: Path, data: Tiny, *callbacks: PredictionSamples, **options: Any) -> EventAccumulator:
    options = {"logger": TensorBoardLogger(folder, name="", version="")} | options
    trainer = Trainer(accelerator="cpu", callbacks=list(callbacks), enable_progress_bar=False, **options)
    trainer.test(Bright(), datamodule=data, verbose=False)
    return EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()


# ---- the callback


def test_each_split_has_its_confusion_matrix_and_the_last_its_sample_predictions(tmp_path: Path) -> None:
    events = evaluated(tmp_path, Tiny(1, 2, 2, splits=("train", "val", "test")), PredictionSamples(samples=4))
    assert events.Tags()["images"] == ["confusion/train", "confusion/val", "confusion/test", "predictions/test"]
    assert len(events.Images("confusion/test")) == 1


def test_the_samples_are_the_surest_mistakes_and_the_least_sure_hits_of_all_batches(tmp_path: Path) -> None:
    pictures = PredictionSamples(samples=4)
    evaluated(tmp_path, Tiny(1, 2, 2, splits=("val", "test")), pictures)
    assert isinstance(pictures.kept, ClassificationSamples)
    chosen = pictures.kept.select()
    # Examples 0, 1, 5, 6 are mistaken, 6 and 5 are the surest of them; of the right ones 2 and 3 are the least sure.
    assert [kept.index for kept in chosen] == [6, 5, 2, 3]
    assert [int(kept.content[0].max()) - 1 for kept in chosen] == [6, 5, 2, 3]
    assert [bool(kept.content[1] == kept.content[2]) for kept in chosen] == [False, False, True, True]
    # softmax of (7, 0, 0): e^7 / (e^7 + 2)
    assert float(chosen[0].content[3]) == pytest.approx(0.998180, abs=1e-6)


def test_texts_are_shown_as_text(tmp_path: Path) -> None:
    events = evaluated(tmp_path, Words(6), PredictionSamples(samples=2))
    assert events.Tags()["images"] == ["confusion/test"]
    (event,) = events.Tensors("predictions/test/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    # example 6: class 0, taken for 1; example 2: class 2, right. softmax of (0, 0, 3): e^3 / (e^3 + 2)
    assert lines[2] == "| ✗ | dog (1.00) | cat | w0 w7 w0 w0 w0 w0 |"
    assert lines[3] == "| ✓ | cow (0.91) | cow | w0 w0 w3 w0 w0 w0 |"


def test_text_data_can_be_read_back() -> None:
    assert callable(TextData.decode)  # the name that a task looks for


def test_inputs_that_are_neither_images_nor_texts_have_confusion_matrices_alone(tmp_path: Path) -> None:
    assert evaluated(tmp_path, Tiny(6), PredictionSamples()).Tags()["images"] == ["confusion/test"]


def test_samples_may_be_left_out(tmp_path: Path) -> None:
    assert evaluated(tmp_path, Tiny(1, 2, 2), PredictionSamples(samples=0)).Tags()["images"] == ["confusion/test"]


def test_a_second_test_run_starts_afresh(tmp_path: Path) -> None:
    pictures = PredictionSamples(samples=20)
    for _ in range(2):
        evaluated(tmp_path, Tiny(1, 2, 2), pictures)
    assert pictures.kept is not None
    assert sorted(map(len, pictures.kept.groups.values())) == [4, 6]  # mistakes and hits of ten examples


@pytest.mark.parametrize("options", [{"logger": False}, {"fast_dev_run": True}])
def test_without_tensorboard_nothing_is_kept_or_drawn(tmp_path: Path, options: dict[str, Any]) -> None:
    pictures = PredictionSamples()
    assert evaluated(tmp_path, Tiny(1, 2, 2), pictures, **options).Tags()["images"] == []
    assert pictures.kept is None


# ---- examples.json, for the report


@pytest.mark.parametrize("options", [{"logger": False}, {"fast_dev_run": True}, {}])
def test_samples_are_kept_for_the_report_with_and_without_tensorboard(tmp_path: Path, options: dict[str, Any]) -> None:
    pictures = PredictionSamples(samples=4, folder=str(tmp_path))
    evaluated(tmp_path, Tiny(1, 2, 2, splits=("val", "test")), pictures, **options)
    if options != {"fast_dev_run": True}:  # which sees the first batch alone
        first, *_, last = read_json(tmp_path / "examples.json")
        assert first.pop("image")
        # example 6: class 0, taken for 1, e^7 / (e^7 + 2) sure; example 3: class 0, e^4 / (e^4 + 2)
        sure = pytest.approx(0.998180, abs=1e-6)
        assert first == {"split": "test", "true": "cat", "predicted": "dog", "probability": sure, "right": False}
        assert (last["true"], last["right"], last["probability"]) == ("cat", True, pytest.approx(0.964663, abs=1e-6))
    assert len(read_json(tmp_path / "examples.json")) == 4


def test_only_the_first_process_writes_them(tmp_path: Path) -> None:
    trainer: Any = type("Second", (), {"loggers": [], "world_size": 1, "is_global_zero": False, "datamodule": None})
    model = Bright()
    model.test_metrics = dict.fromkeys(("test",))  # type: ignore[assignment]
    callback = PredictionSamples(folder=str(tmp_path))
    callback.on_test_start(trainer, model)
    callback.on_test_end(trainer, model)
    assert not list(tmp_path.iterdir())


def test_the_image_of_an_example_has_its_own_colours_back() -> None:
    image = torch.tensor([-1.0, 0.0, 5.0])[:, None, None].expand(3, 1, 2)  # (3, H 1, W 2)
    data: Any = type("Data", (), {"mean": [0.5, 0.4, 0.5], "std": [0.2] * 3})
    entry = sample_entry(kept(image, 0, 1), NAMES, data)
    # -1 * 0.2 + 0.5 = 0.3; 0.4; 5 * 0.2 + 0.5 = 1.5, cut to 1; times 255
    assert unpacked(entry["image"]).getpixel((1, 0)) == (76, 102, 255)


def unpacked(png: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(png)))


def test_a_large_image_is_made_small() -> None:
    assert unpacked(png(torch.zeros(100, 512, 3).numpy())).size == (SIDE, 25)


def test_the_text_of_an_example_is_cut_and_other_inputs_have_neither() -> None:
    data: Any = type("Data", (), {"decode": lambda _: "word\n" * 9000})
    text = sample_entry(kept(torch.arange(3), 1, 1), NAMES, data)["text"]
    assert text[:10] == "word word "
    assert MAX_TEXT - 10 < len(text) <= MAX_TEXT
    assert set(sample_entry(kept(torch.arange(3), 1, 1), NAMES, object())) == {
        "true",
        "predicted",
        "probability",
        "right",
    }


def test_one_of_several_inputs_is_the_image_of_an_example() -> None:
    inputs = {"table": torch.zeros(4), "image": torch.zeros(1, 2, 2)}
    assert "image" in sample_entry(kept(inputs, 1, 1), NAMES, object())


def kept(inputs: Any, true: int, predicted: int, probability: float = 0.5, index: int = 0) -> Kept:
    content = (inputs, torch.tensor(true), torch.tensor(predicted), torch.tensor(probability))
    return Kept(probability if true != predicted else -probability, index, content)


# ---- which examples


class Rows(Classification):
    """Its outputs are probabilities."""

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs


def shares(world: int) -> Iterator[tuple[int, range, list[Tensor]]]:
    """(rank, indices, (numbers, labels) and probabilities) of 40 examples in batches of 8 in all."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(40, 3, generator=generator).softmax(1).mul(20).round().div(20)  # with equals among them
    columns = [torch.arange(40), torch.randint(3, (40,), generator=generator), probabilities]
    for start in range(0, 40, 8):
        for rank in range(world):
            indices = range(start + rank, start + 8, world)
            yield rank, indices, [column[indices.start : indices.stop : world] for column in columns]


def samples_of(world: int, count: int) -> list[ClassificationSamples]:
    found = [ClassificationSamples(Rows(num_classes=3), count) for _ in range(world)]
    for rank, indices, (numbers, labels, probabilities) in shares(world):
        found[rank].add((numbers, labels), probabilities, indices)
    return found


def test_the_choice_is_the_same_with_any_number_of_processes() -> None:
    (alone,), (first, second) = samples_of(1, 6), samples_of(2, 6)
    expected = [kept.index for kept in alone.select()]
    assert len(expected) == 6
    first.merge([second.groups, first.groups])
    assert [kept.index for kept in first.select()] == expected
    assert [int(kept.content[0]) for kept in first.select()] == expected  # the index is that of the split


def test_no_more_is_kept_than_may_be_chosen() -> None:
    (samples,) = samples_of(1, 3)
    assert [len(group) for group in samples.groups.values()] == [3, 3]  # mistakes, hits
    inputs = [kept.content[0] for group in samples.groups.values() for kept in group]
    assert all(tensor.untyped_storage().nbytes() == 8 for tensor in inputs)  # one int64: no view of a batch


@pytest.mark.parametrize(
    ("wrong", "right", "expected"), [(9, 9, (4, 4)), (1, 9, (1, 7)), (9, 1, (7, 1)), (0, 3, (0, 3)), (0, 0, (0, 0))]
)
def test_mistakes_and_hits_are_half_and_half_as_far_as_there_are_both(
    wrong: int, right: int, expected: tuple[int, int]
) -> None:
    samples = ClassificationSamples(Classification(num_classes=3), 8)
    samples.groups = {
        "mistakes": [kept(torch.zeros(1), 0, 1)] * wrong,
        "hits": [kept(torch.zeros(1), 0, 0)] * right,
    }
    hits = [bool(one.content[1] == one.content[2]) for one in samples.select()]
    assert (hits.count(False), hits.count(True)) == expected
    assert hits == sorted(hits)  # mistakes first


def test_all_processes_hand_their_samples_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the indices of a process are those of its share."""
    other = {"mistakes": [kept(torch.zeros(3), 2, 1, 0.9, index=7)], "hits": []}

    def gather(out: list[Any], own: Any) -> None:
        out[:] = [own, other]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    two: Any = type("Two", (), {"loggers": [], "world_size": 2, "global_rank": 0, "is_global_zero": True})
    two.datamodule, two.global_step = Tiny(3), 0
    callback, model = PredictionSamples(folder=str(tmp_path)), Bright()
    model.test_metrics = {"test": SplitMetric()}
    callback.on_test_start(two, model)
    for first in (0, 2):  # two batches of two: examples 0, 2, 4 and 6 of the split
        inputs = torch.tensor([[first + 1.0, 0, 0], [first + 2.0, 0, 0]])
        callback.on_test_batch_end(two, model, inputs, (inputs, torch.tensor([1, 1])), 0)
    callback.on_test_end(two, model)
    assert callback.kept is not None
    # Sure by e^x / (e^x + 2): 0.965 for x = 4, 0.909 for 3, 0.787 for 2, 0.576 for 1; the other process has 0.9.
    assert [one.index for one in callback.kept.groups["mistakes"]] == [6, 4, 7, 2, 0]
    assert len(read_json(tmp_path / "examples.json")) == 5


# ---- what they look like


def texts(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_confusion_matrix_shows_counts_and_the_share_of_each_true_class() -> None:
    # of 4 cats 3 are taken for cats, 1 for a dog; both dogs are right; there is no cow
    figure = confusion_figure([[3, 1, 0], [0, 2, 0], [0, 0, 0]], NAMES, title="test")
    assert texts(figure) == ["3\n75%", "1\n25%", "2\n100%"]
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES
    assert axes.get_title(loc="left") == "test: 83.33% of 6 right"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_many_classes_are_shown_by_colour_alone() -> None:
    figure = confusion_figure(torch.eye(26).tolist(), [f"class {i}" for i in range(26)], title="test")
    assert texts(figure) == []
    assert len(figure.axes) == 2  # with a colour bar


def test_class_names_are_drawn_as_they_are() -> None:
    names = ["$a_$", "a\\b^", "猫" * 50]  # formulas, to matplotlib, and letters that its font lacks
    figure = confusion_figure(torch.eye(3).tolist(), names, title="$_$")
    height, width, channels = pixels(figure).shape
    assert channels == 3
    assert min(height, width) >= 300
    drawn = [entry(image=torch.zeros(2, 2), predicted=name) for name in names]
    assert pixels(samples_figure(drawn)).shape[2] == 3


def entry(*, image: Tensor | None = None, **more: Any) -> dict[str, Any]:
    """Of examples.json."""
    pictures = {} if image is None else {"image": png(image.numpy())}
    return {"true": "cat", "predicted": "cat", "probability": 0.5, "right": True, **pictures, **more}


def test_images_stand_under_what_was_said_of_them_in_green_and_red() -> None:
    image = torch.zeros(2, 2)
    samples = [entry(image=image, predicted="dog", probability=0.875, right=False), entry(image=image)]
    figure = samples_figure(samples)
    titles = [axes.title for axes in figure.axes]
    assert [title.get_text() for title in titles] == ["dog (0.88)\ntrue: cat", "cat (0.50)\ntrue: cat"]
    assert [title.get_color() for title in titles] == [RED, GREEN]


def test_images_have_their_own_colours(caplog: pytest.LogCaptureFixture) -> None:
    image = torch.tensor([0.25, 0.4, 1.0])[None, None]  # (H 1, W 1, 3)
    (axes,) = samples_figure([entry(image=image)]).axes
    shown = axes.images[0].get_array()
    assert shown is not None
    assert shown[0, 0].tolist() == [64, 102, 255]  # times 255
    assert not caplog.records  # matplotlib would note what it has to cut


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated:DeprecationWarning")
def test_a_text_is_shown_to_the_letter_by_tensorboard() -> None:
    from tensorboard.plugin_util import markdown_to_safe_html

    said = "a|b *not* <b>bold</b> _x_ `y`\n# [z](http://z) & 3 > 2 \\| ~"
    table = samples_table([entry(true="y*s*", predicted="y*s*", text=said)])
    cells = re.findall(r"<td>(.*?)</td>", markdown_to_safe_html(table), re.DOTALL)
    assert [html.unescape(cell) for cell in cells[1:]] == ["y*s* (0.50)", "y*s*", " ".join(said.split())]


def test_a_long_text_is_cut() -> None:
    table = samples_table([entry(text="word " * 1000)])
    assert len(table) < 1000
    assert "word &#8230; |" in table


class Sums(Bright):
    """A subclass with steps of its own: a number an example."""

    def _step(self, batch: Any, metric: SplitMetric) -> tuple[Tensor, Any]:
        numbers = self(batch[0]).sum(1)
        metric.append(numbers.sum(), len(numbers), (torch.zeros(len(numbers), dtype=torch.long), batch[1]))
        return numbers.sum(), numbers


def test_a_model_of_other_steps_has_no_samples_and_nothing_breaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    callback = PredictionSamples(folder=str(tmp_path))
    trainer = Trainer(accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False)
    trainer.test(Sums(), datamodule=Tiny(3), verbose=False)
    assert not (tmp_path / "examples.json").exists()
    assert "callbacks.prediction_samples is left out: outputs are (5,), not logits of shape (5, 3)" in caplog.text


# ---- other tasks


class Mean(Task):
    """Predicts the label as a number; shows nothing."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.mean(1) - targets).square().mean()

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"mean": outputs.mean(1)}


def test_a_task_that_shows_nothing_leaves_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    callback = PredictionSamples(folder=str(tmp_path))
    trainer = Trainer(accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False)
    trainer.test(Bright(Mean()), datamodule=Tiny(3), verbose=False)
    assert not list(tmp_path.iterdir())
    assert not caplog.records


class Faulty(Samples):
    def add(self, batch: Any, outputs: Any, indices: Any) -> None:  # noqa: ARG002
        self.keep("all", torch.ones(len(outputs)), (outputs,), indices, count=2)

    def views(self, data: Any, network: Any) -> list[dict[str, Any]]:  # noqa: ARG002
        raise self.task.error


class FaultyMean(Mean):
    def __init__(self, error: Exception) -> None:
        Task.__init__(self)
        self.hparams.pop("error", None)
        self.error = error

    def make_samples(self, count: int) -> Samples:
        return Faulty(self, count)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no such thing"), "callbacks.prediction_samples failed: ValueError('no such thing')"),
        (UserError("no text"), "callbacks.prediction_samples is left out: no text"),
    ],
)
def test_samples_that_fail_cost_the_run_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, message: str
) -> None:
    caplog.set_level("INFO")
    callback = PredictionSamples(folder=str(tmp_path))
    trainer = Trainer(accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False)
    trainer.test(Bright(FaultyMean(error)), datamodule=Tiny(3), verbose=False)
    assert message in caplog.text
    assert "test/loss" in trainer.callback_metrics
