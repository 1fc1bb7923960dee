"""Wherever examples are, the batches and the weights are the same, and a run resumes bit for bit."""

import json
import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning import Callback
from PIL import Image
from torch import Tensor
from torch.optim import Adam

from sample_project.data.tiles import COUNT, TileDataset, Tiles
from sample_project.model.mlp import MLP
from train_smarter.callbacks.resume_checkpoint import ResumeCheckpoint
from train_smarter.data import rows, workers
from train_smarter.data.base import Data
from train_smarter.data.dataset_rows import DatasetRows
from train_smarter.data.decode_files import decode_to_memory
from train_smarter.data.examples import Examples
from train_smarter.data.file_rows import FileRows
from train_smarter.data.images import ImageFolder
from train_smarter.data.loader import Loader, ShardedBatchSampler
from train_smarter.data.row_file import DiskRows
from train_smarter.data.rows import MemoryRows
from train_smarter.errors import UserError
from train_smarter.run.signals import TerminatedBySignal, handle_signals
from train_smarter.task.classification import Classification

pytestmark = [
    pytest.mark.results,
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork"),  # workers of this process, which has threads
]

KINDS = {"memory": MemoryRows, "disk": DiskRows, "none": FileRows}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty images of noise of each of two classes."""
    root = tmp_path_factory.mktemp("images")
    numbers = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir()
        for number in range(30):
            pixels = numbers.integers(0, 256, (9 + number % 3, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def images(folder: Path, cache: str | None, num_workers: int = 0, **given: Any) -> ImageFolder:
    return ImageFolder(
        dir=str(folder),
        size=8,
        shape=[3, 8, 8],
        num_classes=2,
        batch_size=8,
        cache=cache,
        cache_dir=str(folder.parent / f"{folder.name}-cache"),
        num_workers=num_workers,
        **given,
    )


def tiles(num_workers: int) -> Tiles:
    return Tiles(shape=[3, 8, 8], num_classes=2, batch_size=8, num_workers=num_workers)


class Stop(Callback):
    """A signal in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            signal.raise_signal(signal.SIGTERM)


def fit(data: Data, *callbacks: Callback, resume: Path | None = None) -> list[Tensor]:
    """The weights after two epochs of five or six steps, with dropout."""
    torch.manual_seed(1)
    model = MLP(
        shape=[3, 8, 8], task=Classification(num_classes=2), widths=[8], dropout=0.5, optimizer=partial(Adam, lr=0.01)
    )
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        max_epochs=2,
        callbacks=list(callbacks),
    )
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    return [weight.detach().clone() for weight in model.parameters()]


def same(ones: list[Tensor], others: list[Tensor]) -> bool:
    return len(ones) == len(others) and all(one.equal(other) for one, other in zip(ones, others, strict=True))


def resumed(make: Callable[[], Data], folder: Path) -> list[Tensor]:
    """The weights of a run that was stopped in its second epoch, and continued."""
    with handle_signals(), pytest.raises(TerminatedBySignal):
        fit(make(), ResumeCheckpoint(dirpath=str(folder)), Stop(7))
    content = torch.load(folder / "last.ckpt", weights_only=True)
    assert content["global_step"] == 8
    assert content["resume"]["batch"] > 0  # within the epoch
    return fit(make(), ResumeCheckpoint(dirpath=str(folder)), resume=folder / "last.ckpt")


@pytest.fixture(scope="module")
def weights(folder: Path) -> list[Tensor]:
    return fit(images(folder, "memory"))


@pytest.mark.parametrize(("cache", "num_workers"), [("memory", 0), ("disk", 0), ("none", 0), ("none", 1), ("none", 2)])
def test_weights_are_the_same_for_every_cache_and_after_a_resume(
    folder: Path, weights: list[Tensor], cache: str, num_workers: int, tmp_path: Path
) -> None:
    assert same(fit(data := images(folder, cache, num_workers)), weights)
    assert isinstance(data.examples["train"].inputs, KINDS[cache])
    assert same(resumed(lambda: images(folder, cache, num_workers), tmp_path), weights)


@pytest.fixture(scope="module")
def tile_weights() -> list[Tensor]:
    return fit(tiles(0))


@pytest.mark.parametrize("num_workers", [0, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 2))])
def test_a_dataset_with_random_transforms_trains_and_resumes_the_same_with_any_number_of_workers(
    num_workers: int, tile_weights: list[Tensor], tmp_path: Path
) -> None:
    assert same(fit(tiles(num_workers)), tile_weights)
    assert same(resumed(lambda: tiles(num_workers), tmp_path), tile_weights)


# ---- the items of a Dataset


def batches(examples: Examples, num_workers: int, *, epoch: int, random: bool = True, skip: int = 0) -> list[Tensor]:
    loader = Loader(
        examples,
        ShardedBatchSampler(len(examples), batch_size=7, shuffle_seed=3),
        random=random,
        num_workers=num_workers,
    )
    loader.sampler.set_epoch(epoch)
    loader.skip = skip
    return [batch[0] for batch in loader]


def test_random_transforms_differ_from_epoch_to_epoch_and_are_left_out_of_evaluations() -> None:
    data = tiles(0)
    data.setup()
    train = data.examples["train"]
    first, second = (torch.cat(batches(train, 0, epoch=epoch)) for epoch in (0, 1))
    assert not torch.cat(batches(train, 0, epoch=0)).sort(0)[0].equal(second.sort(0)[0])
    assert torch.cat(batches(train, 0, epoch=0)).equal(first)
    plain = torch.stack([TileDataset()[place][0] for place in train.inputs.index.tolist()])
    assert train.inputs.read().equal(plain)
    assert not first.sort(0)[0].equal(plain.sort(0)[0])
    assert torch.cat(batches(train, 0, epoch=1, random=False)).sort(0)[0].equal(plain.sort(0)[0])


def test_a_resume_within_an_epoch_reads_the_rest_of_its_batches() -> None:
    data = tiles(0)
    data.setup()
    whole = batches(data.examples["train"], 0, epoch=1)
    for count in (0, 2):
        rest = batches(data.examples["train"], count, epoch=1, skip=3)
        assert len(rest) == len(whole) - 3
        assert same(rest, whole[3:])


def test_an_epoch_that_is_broken_off_leaves_nothing_to_the_next_one() -> None:
    data = tiles(0)
    data.setup()
    train = data.examples["train"]
    loader = Loader(train, ShardedBatchSampler(len(train), batch_size=7, shuffle_seed=3), random=True, num_workers=2)
    next(iter(loader))
    loader.sampler.set_epoch(1)
    assert same([batch[0] for batch in loader], batches(train, 0, epoch=1))


def test_items_that_this_process_reads_change_no_random_number_of_the_model() -> None:
    data = tiles(0)
    data.setup()
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3).tolist(), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    batches(data.examples["train"], 0, epoch=0)
    assert (torch.rand(3).tolist(), np.random.rand()) == expected


def test_known_targets_are_used_for_counts_and_the_others_are_read() -> None:
    data = TileDataset()
    known = Examples.from_dataset(data, data.labels)
    assert known.targets.tolist() == [0, 1] * (COUNT // 2)
    read = Examples.from_dataset(data)
    assert isinstance(read.targets, DatasetRows)
    assert read.targets.read(torch.tensor([3, 4])).tolist() == [1, 0]
    assert (read.inputs.shape, read.targets.shape) == ((COUNT, 3, 8, 8), (COUNT,))


class Items(torch.utils.data.Dataset[Any]):
    """Given items, with a count of how often one was read."""

    def __init__(self, *items: Any) -> None:
        self.items, self.reads = items, 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        self.reads += 1
        return self.items[number]


def test_inputs_of_several_parts_are_read_once_for_all() -> None:
    data = Items(*(({"image": torch.full((3, 2, 2), n), "age": float(n)}, {"class": n}) for n in range(4)))
    examples = Examples.from_dataset(data)
    data.reads = 0
    inputs, targets = examples.read(torch.tensor([2, 0]))
    assert data.reads == 2
    assert inputs["image"][:, 0, 0, 0].tolist() == [2, 0]
    assert inputs["age"].tolist() == [2, 0]
    assert targets["class"].tolist() == [2, 0]


def test_items_without_a_target_are_inputs_alone() -> None:
    examples = Examples.from_dataset(Items(torch.zeros(2), torch.ones(2)))
    assert examples.targets is None
    assert examples.read(torch.tensor([1]))[0].tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([Items(), None, None], "Items has no items"),
        ([iter([1]), None, None], "an IterableDataset trains through a LightningDataModule of your own"),
        ([Items((Image.new("RGB", (2, 2)), 1)), None, None], "convert it in the Dataset's transforms, an image by v2"),
        ([Items(("a text", 1)), None, None], "holds a str, which is no tensor"),
        ([Items((torch.zeros(2), 1)), [1, 2], None], "1 items, but 2 targets"),
        ([Items((torch.zeros(2), 1)), None, Items()], "1 items, but eval_dataset has 0: give the same items"),
    ],
)
def test_what_makes_no_examples_is_refused(given: list[Any], why: str) -> None:
    dataset, targets, evaluated = given
    with pytest.raises(UserError, match=why):
        Examples.from_dataset(dataset, targets, eval_dataset=evaluated)


def test_items_of_different_shapes_are_refused_when_a_batch_needs_them() -> None:
    examples = Examples.from_dataset(Items((torch.zeros(2), 1), (torch.zeros(3), 1)))
    with pytest.raises(UserError, match=r"items of Items make no batch: .*v2.Resize"):
        examples.read(torch.tensor([0, 1]))


def test_an_error_of_a_dataset_names_its_item() -> None:
    examples = Examples.from_dataset(TileDataset())
    with pytest.raises(IndexError) as caught:
        examples.inputs.read_at(torch.tensor([COUNT + 5]), epoch=0)
    assert caught.value.__notes__ == [f"item {COUNT + 5} of TileDataset"]


# ---- files that are decoded for each batch


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_file_that_breaks_later_is_named_with_the_way_out(num_workers: int, tmp_path: Path) -> None:
    broken = tmp_path / "a" / "1.png"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(8):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{number}.png")
    data = images(tmp_path, "none", num_workers)
    data.setup()
    broken.write_bytes(b"no image")
    inputs = {split: examples.inputs for split, examples in data.examples.items()}
    (split,) = (split for split, rows in inputs.items() if broken in [rows.files[place] for place in rows.index])
    with pytest.raises(UserError) as caught:
        list(data.loader(split))
    assert str(caught.value) == (
        f"{broken} is broken: not an image; repair or delete it, or type data.cache=disk, which reads every file "
        "before training and leaves broken ones out"
    )


def test_broken_headers_are_named_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(8):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "a" / "x.png").write_bytes(b"no image")
    data = images(tmp_path, "none")
    data.setup()
    assert f"{tmp_path / 'a' / 'x.png'} is broken and left out: not an image" in caplog.text
    assert sum(map(len, data.examples.values())) == 16


def test_broken_files_of_a_cache_are_named_at_every_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(8):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "a" / "x.png").write_bytes(b"no image")
    for _ in range(2):
        caplog.clear()
        images(tmp_path, "disk").setup()
        assert [m for m in caplog.messages if "broken and left out" in m] == [
            f"{tmp_path / 'a' / 'x.png'} is broken and left out: not an image"
        ]


@pytest.mark.slow  # torch looks every five seconds
def test_a_worker_that_was_killed_is_named_with_the_way_out() -> None:
    class Killing(TileDataset):
        def __getitem__(self, number: int) -> Any:
            if torch.utils.data.get_worker_info():
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(number)

    examples = Examples.from_dataset(Killing())
    with pytest.raises(UserError, match=r"a worker process .* has ended .*type a smaller data.num_workers"):
        batches(examples, 1, epoch=0)


@pytest.mark.parametrize(
    ("given", "cores", "processes", "expected"),
    [(None, 4, 1, 4), (None, 64, 2, 8), (None, 1, 4, 0), (3, 1, 1, 3), (0, 9, 1, 0)],
)
def test_workers_share_the_cores(
    given: int | None, cores: int, processes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "usable_cpus", lambda: cores)
    assert workers.choose_workers(given, processes=processes) == expected


# ---- jobs of one process


def test_jobs_of_a_process_decode_once_unless_a_file_has_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    real = decode_to_memory

    def counted(files: Any, decoder: Any) -> Any:
        decoded.append(len(files))
        return real(files, decoder)

    monkeypatch.setattr("train_smarter.data.file_storage.decode_to_memory", counted)
    for _ in range(2):
        data = images(folder, "memory")
        data.reuse_across_jobs = True
        data.setup()
    assert decoded == [60]
    os.utime(folder / "a" / "1.png", ns=(1, 5))
    data = images(folder, "memory")
    data.reuse_across_jobs = True
    data.setup()
    assert decoded == [60, 60]


def test_a_place_that_does_not_exist_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"data.cache=ram: give memory, disk, none, or null"):
        images(folder, "ram")


def test_the_place_is_said_with_its_size(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        images(folder, None).setup()
    assert "data.cache=memory: 60 images of 3x8x8, 12 KB (" in caplog.text


@pytest.mark.slow
def test_every_command_takes_a_dataset_that_workers_read(tmp_path: Path, command: Callable[..., Any]) -> None:
    short = ["model=mlp", "trainer=cpu", "trainer.max_epochs=2", "report=true"]
    done = command("train", "data=tiles", "data.num_workers=2", *short, timeout=500)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "train" / "runs").iterdir()
    assert (run / "report.html").is_file()
    measured = json.loads((run / "diagnosis.json").read_text())["measured"]
    assert measured["shift"]
    assert sum(measured["train_classes"]) > 0
    for verb, more in (("evaluate", []), ("predict", ["split=test"]), ("export", ["format=torch"])):
        done = command(verb, f"run={run}", *more, timeout=500)
        assert done.returncode == 0, done.stderr
    before, after = (json.loads((run / part / "results.json").read_text()) for part in (".", "evaluate"))
    metrics = [name for name in before if "/" in name]
    assert metrics
    assert {name: after[name] for name in metrics} == {name: before[name] for name in metrics}


def test_a_command_that_writes_nothing_makes_no_cache_file(folder: Path, tmp_path: Path) -> None:
    data = ImageFolder(
        dir=str(folder), size=8, shape=[3, 8, 8], cache="disk", cache_dir=str(tmp_path / "cache"), download=False
    )
    data.prepare_data()
    data.setup()
    assert isinstance(data.examples["train"].inputs, MemoryRows)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [lambda folder: images(folder, "none"), lambda _: tiles(0)], ids=["files", "dataset"])
def test_a_worker_reads_a_batch_into_the_shared_memory_in_which_it_is_sent(
    make: Callable[[Path], Data], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(folder)
    data.setup()
    index = torch.arange(4)
    own = data.examples["train"].read(index)[0]
    monkeypatch.setattr(rows, "get_worker_info", object)
    sent = data.examples["train"].read(index, epoch=1)[0]
    assert (own.is_shared(), sent.is_shared(), sent.stride()) == (False, True, own.stride())
    assert data.examples["train"].inputs.take(index).read().equal(own)
