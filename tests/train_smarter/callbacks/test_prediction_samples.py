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

from train_smarter.callbacks.prediction_samples import (
    MAX_TEXT,
    PredictionSamples,
    TopKSamples,
    _gather_samples,
    sample_entry,
)
from train_smarter.data.text_data import TextData
from train_smarter.fit.module import Model
from train_smarter.report.figures import (
    GREEN,
    RED,
    SIDE,
    Sample,
    confusion_figure,
    pixels,
    png,
    samples_figure,
    samples_table,
)
from train_smarter.run.files import read_json

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*can be a significant slow")

NAMES = ["cat", "dog", "cow"]


class Bright(Model):
    """Believes in the class of the brightest of an example's first three numbers."""

    def __init__(self, **classifier: Any) -> None:
        super().__init__(num_classes=3, **classifier)
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
    chosen = pictures.top_k.select(pictures.top_k.samples)
    # Examples 0, 1, 5, 6 are mistaken, 6 and 5 are the surest of them; of the right ones 2 and 3 are the least sure.
    assert [int(sample.input.max()) - 1 for sample in chosen] == [6, 5, 2, 3]
    assert [sample.right for sample in chosen] == [False, False, True, True]
    # softmax of (7, 0, 0): e^7 / (e^7 + 2)
    assert chosen[0].probability == pytest.approx(0.998180, abs=1e-6)


def test_texts_are_shown_as_text(tmp_path: Path) -> None:
    events = evaluated(tmp_path, Words(6), PredictionSamples(samples=2))
    assert events.Tags()["images"] == ["confusion/test"]
    (event,) = events.Tensors("predictions/test/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    # example 6: class 0, taken for 1; example 2: class 2, right. softmax of (0, 0, 3): e^3 / (e^3 + 2)
    assert lines[2] == "| ✗ | dog (1.00) | cat | w0 w7 w0 w0 w0 w0 |"
    assert lines[3] == "| ✓ | cow (0.91) | cow | w0 w0 w3 w0 w0 w0 |"


def test_text_data_can_be_read_back() -> None:
    assert callable(TextData.decode)  # the name that Pictures looks for


def test_inputs_that_are_neither_images_nor_texts_have_confusion_matrices_alone(tmp_path: Path) -> None:
    assert evaluated(tmp_path, Tiny(6), PredictionSamples()).Tags()["images"] == ["confusion/test"]


def test_samples_may_be_left_out(tmp_path: Path) -> None:
    assert evaluated(tmp_path, Tiny(1, 2, 2), PredictionSamples(samples=0)).Tags()["images"] == ["confusion/test"]


def test_a_second_test_run_starts_afresh(tmp_path: Path) -> None:
    pictures = PredictionSamples(samples=20)
    for _ in range(2):
        evaluated(tmp_path, Tiny(1, 2, 2), pictures)
    assert len(pictures.top_k.samples) == 10


@pytest.mark.parametrize("options", [{"logger": False}, {"fast_dev_run": True}])
def test_without_tensorboard_nothing_is_kept_or_drawn(tmp_path: Path, options: dict[str, Any]) -> None:
    pictures = PredictionSamples()
    assert evaluated(tmp_path, Tiny(1, 2, 2), pictures, **options).Tags()["images"] == []
    assert pictures.top_k.samples == []


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
    PredictionSamples(folder=str(tmp_path)).on_test_end(trainer, model)
    assert not list(tmp_path.iterdir())


def test_the_image_of_an_example_has_its_own_colours_back() -> None:
    image = torch.tensor([-1.0, 0.0, 5.0])[:, None, None].expand(3, 1, 2)  # (3, H 1, W 2)
    data: Any = type("Data", (), {"mean": [0.5, 0.4, 0.5], "std": [0.2] * 3})
    entry = sample_entry(Sample(image, 0, 1, 0.5, (0, 0, 0)), NAMES, data)
    # -1 * 0.2 + 0.5 = 0.3; 0.4; 5 * 0.2 + 0.5 = 1.5, cut to 1; times 255
    assert unpacked(entry["image"]).getpixel((1, 0)) == (76, 102, 255)


def unpacked(png: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(png)))


def test_a_large_image_is_made_small() -> None:
    assert unpacked(png(torch.zeros(100, 512, 3).numpy())).size == (SIDE, 25)


def test_the_text_of_an_example_is_cut_and_other_inputs_have_neither() -> None:
    data: Any = type("Data", (), {"decode": lambda _: "word\n" * 9000})
    text = sample_entry(sample(right=True), NAMES, data)["text"]
    assert text[:10] == "word word "
    assert MAX_TEXT - 10 < len(text) <= MAX_TEXT
    assert set(sample_entry(sample(right=True), NAMES, object())) == {"true", "predicted", "probability", "right"}


# ---- which examples


def shares(world: int) -> Iterator[tuple[int, int, list[Tensor]]]:
    """(rank, batch_idx, inputs and labels and so on) of 40 examples in batches of 8 in all."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(40, 3, generator=generator).softmax(1).mul(20).round().div(20)  # with equals among them
    columns = [torch.arange(40), torch.randint(3, (40,), generator=generator), probabilities.argmax(1), probabilities]
    for batch_idx in range(5):
        for rank in range(world):
            yield rank, batch_idx, [column[batch_idx * 8 : batch_idx * 8 + 8][rank::world] for column in columns]


def sieved(world: int, count: int) -> list[list[Sample]]:
    sieves = [TopKSamples(count) for _ in range(world)]
    for rank, batch_idx, (inputs, labels, predicted, probabilities) in shares(world):
        sieves[rank].add(inputs, labels, predicted, probabilities, batch_idx=batch_idx, rank=rank)
    return [sieve.samples for sieve in sieves]


def test_the_choice_is_the_same_with_any_number_of_processes() -> None:
    (alone,), (first, second) = sieved(1, 6), sieved(2, 6)
    expected = [int(sample.input) for sample in TopKSamples(6).select(alone)]
    assert len(expected) == 6
    assert [int(sample.input) for sample in TopKSamples(6).select(second + first)] == expected


def test_no_more_is_kept_than_may_be_chosen() -> None:
    (kept,) = sieved(1, 3)
    assert len(kept) == 6  # three mistakes, three hits
    assert all(sample.input.untyped_storage().nbytes() == 8 for sample in kept)  # one int64: no view of a batch


def sample(*, right: bool, probability: float = 0.5, name: int = 0) -> Sample:
    return Sample(torch.tensor(name), 1, 1 if right else 0, probability, (0, name, 0))


@pytest.mark.parametrize(
    ("wrong", "right", "expected"), [(9, 9, (4, 4)), (1, 9, (1, 7)), (9, 1, (7, 1)), (0, 3, (0, 3)), (0, 0, (0, 0))]
)
def test_mistakes_and_hits_are_half_and_half_as_far_as_there_are_both(
    wrong: int, right: int, expected: tuple[int, int]
) -> None:
    chosen = TopKSamples(8).select([sample(right=False)] * wrong + [sample(right=True)] * right)
    assert (sum(not s.right for s in chosen), sum(s.right for s in chosen)) == expected
    assert [s.right for s in chosen] == sorted(s.right for s in chosen)  # mistakes first


def test_all_processes_hand_their_samples_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(out: list[Any], own: list[Sample]) -> None:
        out[:] = [own, [sample(right=True, name=7)]]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    two: Any = type("Two", (), {"world_size": 2})
    assert [int(s.input) for s in _gather_samples(two, [sample(right=False, name=3)])] == [3, 7]


# ---- what they look like


def texts(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_confusion_matrix_shows_counts_and_the_share_of_each_true_class() -> None:
    # of 4 cats 3 are taken for cats, 1 for a dog; both dogs are right; there is no cow
    figure = confusion_figure(torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]]), NAMES, title="test")
    assert texts(figure) == ["3\n75%", "1\n25%", "2\n100%"]
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES
    assert axes.get_title(loc="left") == "test: 83.33% of 6 right"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_many_classes_are_shown_by_colour_alone() -> None:
    figure = confusion_figure(torch.eye(26, dtype=torch.long), [f"class {i}" for i in range(26)], title="test")
    assert texts(figure) == []
    assert len(figure.axes) == 2  # with a colour bar


def test_class_names_are_drawn_as_they_are() -> None:
    names = ["$a_$", "a\\b^", "猫" * 50]  # formulas, to matplotlib, and letters that its font lacks
    figure = confusion_figure(torch.eye(3, dtype=torch.long), names, title="$_$")
    height, width, channels = pixels(figure).shape
    assert channels == 3
    assert min(height, width) >= 300
    drawn = [Sample(torch.zeros(1, 2, 2), 0, i, 0.5, (0, i, 0)) for i in range(3)]
    assert pixels(samples_figure(drawn, names, mean=[0.5], std=[0.5])).shape[2] == 3


def test_images_stand_under_what_was_said_of_them_in_green_and_red() -> None:
    samples = [Sample(torch.zeros(1, 2, 2), 0, guess, 0.875, (0, 0, 0)) for guess in (1, 0)]
    figure = samples_figure(samples, NAMES, mean=[0.5], std=[0.5])
    titles = [axes.title for axes in figure.axes]
    assert [title.get_text() for title in titles] == ["dog (0.88)\ntrue: cat", "cat (0.88)\ntrue: cat"]
    assert [title.get_color() for title in titles] == [RED, GREEN]


def test_images_have_their_own_colours_back(caplog: pytest.LogCaptureFixture) -> None:
    image = torch.tensor([-1.0, 0.0, 5.0])[:, None, None]  # (3, 1, 1)
    (axes,) = samples_figure([Sample(image, 0, 0, 1.0, (0, 0, 0))], NAMES, mean=[0.5, 0.4, 0.5], std=[0.25] * 3).axes
    shown = axes.images[0].get_array()
    # -1 * 0.25 + 0.5 = 0.25; 0.4; 5 * 0.25 + 0.5 = 1.75, cut to 1
    assert shown is not None
    assert shown[0, 0].tolist() == pytest.approx([0.25, 0.4, 1.0])
    assert not caplog.records  # matplotlib would note what it has to cut


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated:DeprecationWarning")
def test_a_text_is_shown_to_the_letter_by_tensorboard() -> None:
    from tensorboard.plugin_util import markdown_to_safe_html

    said = "a|b *not* <b>bold</b> _x_ `y`\n# [z](http://z) & 3 > 2 \\| ~"
    table = samples_table([sample(right=True)], ["no", "y*s*"], lambda _: said)
    cells = re.findall(r"<td>(.*?)</td>", markdown_to_safe_html(table), re.DOTALL)
    assert [html.unescape(cell) for cell in cells[1:]] == ["y*s* (0.50)", "y*s*", " ".join(said.split())]


def test_a_long_text_is_cut() -> None:
    table = samples_table([sample(right=True)], ["no", "yes"], lambda _: "word " * 1000)
    assert len(table) < 1000
    assert "word &#8230; |" in table


class Sums(Bright):
    """A subclass for another kind of task: a number an example."""

    def _step(self, batch: Any, tally: Any) -> tuple[Tensor, Tensor]:
        numbers = self(batch[0]).sum(1)
        tally.append(numbers.sum(), torch.zeros(len(numbers), dtype=torch.long), batch[1])
        return numbers.sum(), numbers


def test_a_model_of_another_task_has_no_pictures_and_nothing_breaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    callback = PredictionSamples(folder=str(tmp_path))
    trainer = Trainer(accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False)
    trainer.test(Sums(), datamodule=Tiny(3), verbose=False)
    assert not (tmp_path / "examples.json").exists()
    assert "callbacks.prediction_samples is left out: outputs are (5,), not logits of shape (5, 3)" in caplog.text
