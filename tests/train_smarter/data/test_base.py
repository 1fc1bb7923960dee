import logging
import random
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import lightning
import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from sample_project.data.digits import Digits
from sample_project.data.phrases import Phrases
from train_smarter.config.build import build
from train_smarter.data.augment import Flip
from train_smarter.data.base import Data
from train_smarter.data.examples import SPLITS, Examples, RawDataset, SplitName, index_rows, join, read_rows
from train_smarter.data.loader import Loader, ShardedBatchSampler, derive_seed
from train_smarter.data.rows import MemoryRows
from train_smarter.errors import UserError

D = TypeVar("D", bound=Data)


class Numbers(Data):
    """Each example is its own number, so a batch tells which examples it holds."""

    def __init__(self, *counts: int, official: Sequence[SplitName] = (), **data: Any) -> None:
        """counts: examples of each class; official: splits that exist, of the same size."""
        super().__init__(**{"num_classes": len(counts), **data})
        self.counts, self.official, self.reads = counts, official, 0

    def read(self) -> RawDataset:
        self.reads += 1
        labels = torch.arange(len(self.counts)).repeat_interleave(torch.tensor(self.counts))
        parts = {
            name: Examples(torch.arange(len(labels)) + 1000 * place, labels)
            for place, name in enumerate(SPLITS)
            if name == "train" or name in self.official
        }
        names = [f"class {label}" for label in range(len(self.counts))]
        return RawDataset(names, train=parts["train"], val=parts.get("val"), test=parts.get("test"))


def ready(*counts: int, **data: Any) -> Numbers:
    numbers = Numbers(*counts, **data)
    numbers.setup()
    return numbers


def held(data: Data, name: SplitName) -> list[int]:
    """The numbers of a split's examples."""
    numbers: list[int] = data.examples[name].inputs.tolist()
    return numbers


def per_class(data: Data, name: SplitName) -> list[int]:
    counts: list[int] = data.examples[name].targets.bincount(minlength=data.num_classes).tolist()
    return counts


def epoch(batches: ShardedBatchSampler, number: int = 0) -> list[list[int]]:
    batches.set_epoch(number)
    return [batch.tolist() for batch in batches]


def flat(batches: list[list[int]]) -> list[int]:
    return [example for batch in batches for example in batch]


# ---- splits


def test_splits_are_disjoint_and_cover_everything() -> None:
    data = ready(100, 50, 21)
    assert sorted(held(data, "train") + held(data, "val") + held(data, "test")) == list(range(171))


def test_every_class_has_its_share_of_every_split() -> None:
    data = ready(100, 50, 21, test_fraction=0.2, val_fraction=0.1)
    assert per_class(data, "test") == [20, 10, 4]  # 0.2 x 100, 0.2 x 50, 0.2 x 21 = 4.2
    assert per_class(data, "val") == [8, 4, 2]  # 0.1 x 80, 0.1 x 40, 0.1 x 17 = 1.7
    assert per_class(data, "train") == [72, 36, 15]  # what is left of 100, 50 and 21


def test_the_training_seed_leaves_the_splits_alone() -> None:
    for name in SPLITS:
        assert held(ready(30, 30, seed=1), name) == held(ready(30, 30, seed=2), name)


def test_the_split_seed_fixes_the_splits() -> None:
    one, other = ready(30, 30, split_seed=1), ready(30, 30, split_seed=2)
    assert [held(one, name) for name in SPLITS] == [held(ready(30, 30, split_seed=1), name) for name in SPLITS]
    assert held(one, "test") != held(other, "test")
    one, other = (ready(30, 30, official=["test"], split_seed=seed) for seed in (1, 2))
    assert held(one, "val") != held(other, "val")
    one, other = (ready(30, 30, official=["test"], split_seed=seed, fold=1) for seed in (1, 2))
    assert held(one, "val") != held(other, "val")


@pytest.mark.parametrize("fold", [None, 2])
def test_an_official_test_split_is_untouched(fold: int | None) -> None:
    data = ready(30, 30, official=["test"], fold=fold)
    assert held(data, "test") == list(range(2000, 2060))
    assert sorted(held(data, "train") + held(data, "val")) == list(range(60))


def test_an_official_validation_split_is_untouched() -> None:
    data = ready(30, 30, official=["val", "test"])
    assert [held(data, name)[0] for name in SPLITS] == [0, 1000, 2000]
    assert [len(held(data, name)) for name in SPLITS] == [60, 60, 60]


def test_folds_are_disjoint_and_cover_train() -> None:
    folds = [ready(7, 13, 22, official=["test"], folds=5, fold=fold) for fold in range(5)]
    assert sorted(number for data in folds for number in held(data, "val")) == list(range(42))
    for data in folds:
        assert sorted(held(data, "train") + held(data, "val")) == list(range(42))


def test_more_folds_than_examples_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.folds=17: there are 16 examples for data\.fold; give 16 or less"):
        ready(10, 10, fold=0, folds=17, test_fraction=0.2)


def test_every_fold_has_its_share_of_every_class() -> None:
    for fold in range(5):
        shares = per_class(ready(7, 13, 22, official=["test"], folds=5, fold=fold), "val")
        for share, exact in zip(shares, (7 / 5, 13 / 5, 22 / 5), strict=True):
            assert abs(share - exact) < 1


def test_setup_reads_once_and_stays_as_it_is() -> None:
    data = ready(30, 30)
    before = dict(data.examples)
    data.setup("fit")
    data.setup("test")
    assert data.reads == 1
    assert all(data.examples[name] is before[name] for name in SPLITS)


def test_setup_logs_each_split_with_its_classes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ready(10, 20, test_fraction=0.5, val_fraction=0.2)
    assert caplog.messages == [
        "train: 12 examples, per class {'class 0': 4, 'class 1': 8}",  # (10 - 5) x 0.8, (20 - 10) x 0.8
        "val: 3 examples, per class {'class 0': 1, 'class 1': 2}",
        "test: 15 examples, per class {'class 0': 5, 'class 1': 10}",
    ]


def test_a_wrong_number_of_classes_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.num_classes=3, but Numbers has 2: \['class 0', 'class 1'\]"):
        ready(30, 30, num_classes=3)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(UserError, match=r"the val split is empty; check data.val_fraction"):
        ready(4, 4, val_fraction=0.01)  # 0.01 x 3 is no whole example


def test_a_split_smaller_than_the_number_of_processes_is_refused() -> None:
    data = ready(2, 2, official=["val", "test"])
    data.trainer = SimpleNamespace(global_rank=0, world_size=5, overfit_batches=0)  # type: ignore[assignment]
    with pytest.raises(UserError, match="train has 4 examples, but 5 processes are to share them"):
        data.train_dataloader()


def test_texts_are_taken_by_index_like_tensors() -> None:
    taken = Examples(["a", "b", "c"], torch.tensor([0, 1, 2])).take(torch.tensor([2, 0]))
    assert taken.inputs == ["c", "a"]
    assert taken.targets.tolist() == [2, 0]


# ---- read once for all runs of a process


@pytest.fixture(autouse=True)
def nothing_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Data, "_last", None, raising=False)


def sharing(data: D) -> D:
    """The data, set up as those of a multirun's job."""
    data.reuse_across_jobs = True
    data.setup()
    return data


def same_tensors(one: Data, other: Data) -> bool:
    """Whether two data sets hold the very same tensors."""
    pairs = [(one.examples[name], other.examples[name]) for name in SPLITS]
    return all(a.inputs is b.inputs and a.targets is b.targets for a, b in pairs)


def read_all(examples: Examples) -> Tensor:
    """A copy of all inputs."""
    inputs: Tensor = read_rows(examples.inputs, torch.arange(len(examples)))
    return inputs


def test_data_with_the_settings_of_the_last_ones_are_not_read_again() -> None:
    first, second = (sharing(Numbers(30, 30)) for _ in range(2))
    assert same_tensors(first, second)
    assert second.names == ["class 0", "class 1"]


@pytest.mark.parametrize("shared", [(False, False), (True, False), (False, True)])
def test_data_are_shared_only_where_both_are_told_to(shared: tuple[bool, bool]) -> None:
    first, second = Numbers(30, 30), Numbers(30, 30)
    for data, share in zip((first, second), shared, strict=True):
        data.reuse_across_jobs = share
        data.setup()
    assert not Data.reuse_across_jobs
    assert not same_tensors(first, second)


@pytest.mark.parametrize(
    "setting",
    [{"batch_size": 7}, {"eval_batch_size": 7}, {"seed": 7}, {"shuffle": False}, {"on_device": True}],
)
def test_settings_that_change_nothing_about_what_is_read_stay_the_new_ones(setting: dict[str, Any]) -> None:
    first, second = sharing(Numbers(30, 30)), sharing(Numbers(30, 30, **setting))
    assert same_tensors(first, second)
    assert {name: getattr(second, name) for name in setting} == setting


@pytest.mark.parametrize(
    "setting",
    [
        {"val_fraction": 0.2},
        {"test_fraction": 0.3},
        {"fold": 0},
        {"split_seed": 1},
        {"folds": 7},
        {"official": ["val"]},
    ],
)
def test_data_with_other_settings_are_read_anew(setting: dict[str, Any]) -> None:
    first, second = sharing(Numbers(30, 30)), sharing(Numbers(30, 30, **setting))
    assert not same_tensors(first, second)
    expected = ready(30, 30, **setting)
    assert [held(second, name) for name in SPLITS] == [held(expected, name) for name in SPLITS]


def test_another_data_set_with_the_same_settings_is_read_anew() -> None:
    class Others(Numbers):
        pass

    assert not same_tensors(sharing(Numbers(30, 30)), sharing(Others(30, 30)))


def test_settings_that_cannot_be_compared_are_taken_for_others() -> None:
    class Weighted(Numbers):
        weights: Tensor

    def with_weights(weights: Tensor) -> Weighted:
        data = Weighted(30, 30)
        data.weights = weights
        return sharing(data)

    weights = torch.ones(2)
    assert same_tensors(with_weights(weights), with_weights(weights))
    assert not same_tensors(with_weights(torch.ones(2)), with_weights(torch.ones(2)))


def test_only_the_last_data_are_kept_and_not_while_others_are_read() -> None:
    class Slow(Numbers):
        alive: Callable[[], Any]

        def read(self) -> RawDataset:
            assert self.alive() is None
            return super().read()

    first = sharing(Numbers(30, 30))
    Slow.alive = weakref.ref(first.examples["train"].inputs)
    del first
    sharing(Slow(30, 30))


def test_what_becomes_of_data_after_setup_does_not_show_in_the_next_ones() -> None:
    first = sharing(Numbers(30, 30, on_device=True))
    first.examples_on(torch.device("meta"), "train")
    first.trainer, first.splits = SimpleNamespace(), ("val",)  # type: ignore[assignment]
    before = {name: first.examples[name] for name in SPLITS}
    first.examples["train"] = first.examples["val"]
    first.names.append("another")
    second = sharing(Numbers(30, 30))
    assert all(second.examples[name].inputs is before[name].inputs for name in SPLITS)
    assert second.names == ["class 0", "class 1"]
    assert not second.fits_on(torch.device("cpu"))
    assert (second._placed, second.trainer, second.splits) == ({}, None, ("test",))
    second.names.append("another")
    assert sharing(Numbers(30, 30)).names == ["class 0", "class 1"]


def test_data_that_are_refused_are_refused_the_second_time() -> None:
    for _ in range(2):
        with pytest.raises(UserError, match=r"data.num_classes=3, but Numbers has 2"):
            sharing(Numbers(30, 30, num_classes=3))


def test_the_classes_of_a_past_run_are_held_against_shared_data() -> None:
    sharing(Numbers(30, 30))
    data = Numbers(30, 30)
    data.load_preprocess({"names": ["cat", "dog"]})
    with pytest.raises(UserError, match="but the run was trained on \\['cat', 'dog'\\]"):
        sharing(data)


def test_normalisation_and_augmentation_stay_the_new_ones() -> None:
    def digits(**data: Any) -> Digits:
        return sharing(Digits(num_classes=10, size=8, shape=[1, 8, 8], **data))

    first, flip = digits(augment={"flip": Flip(p=0.25)}), Flip(p=0.75)
    first.normalize(first.examples["val"].inputs)
    second = digits(mean=0.25, std=0.125, augment={"flip": flip})
    assert same_tensors(first, second)
    assert (second.mean, second.std, second.augment) == ([0.25], [0.125], {"flip": flip})
    # (0.5 - 0.25) / 0.125
    assert second.normalize(torch.full((1, 1, 8, 8), 0.5)).unique().tolist() == [2.0]
    assert not same_tensors(second, sharing(Digits(num_classes=10, size=9, shape=[1, 9, 9])))


def phrases(**data: Any) -> Phrases:
    return Phrases(**{"num_classes": 2, "vocab_size": 60, "max_length": 12, "pairs": 50, **data})


def test_texts_come_with_their_tokenizer() -> None:
    first, second = sharing(phrases()), sharing(phrases(batch_size=7))
    assert same_tensors(first, second)
    assert second.preprocess() == first.preprocess()
    assert second.encode_texts(["the plot was good"]).equal(first.encode_texts(["the plot was good"]))
    assert second.num_removed == first.num_removed


@pytest.mark.parametrize(
    "setting",
    [{"vocab_size": 30}, {"max_length": 9}, {"truncation_side": "right"}, {"pairs": 60}, {"dir": "elsewhere"}],
)
def test_texts_with_other_settings_are_read_anew(setting: dict[str, Any]) -> None:
    first, second = sharing(phrases()), sharing(phrases(**setting))
    assert not same_tensors(first, second)
    expected = phrases(**setting)
    expected.setup()
    assert second.preprocess() == expected.preprocess()


def test_texts_of_a_past_run_keep_its_tokenizer() -> None:
    past = phrases(split_seed=5, vocab_size=40)
    past.setup()
    first, second = sharing(phrases()), phrases()
    second.load_preprocess(past.preprocess())
    sharing(second)
    assert not same_tensors(first, second)
    assert second.preprocess() == past.preprocess()
    assert sharing(phrases()).preprocess() == first.preprocess()


@pytest.mark.parametrize("name", ["digits", "images", "phrases"])
def test_a_data_set_is_shared_and_no_run_writes_into_its_tensors(
    compose: Callable[..., DictConfig], facts: Callable[[str], list[str]], tmp_path: Path, name: str
) -> None:
    own = facts(name)
    texts = "vocab_size" in compose(f"data={name}", *own).data
    how = (
        ["model=lstm"] if texts else ["model=mlp", "data.augment.rotation.degrees=9", "data.augment.jitter.contrast=1"]
    )
    small = ["debug=limit", "trainer=cpu", "data.batch_size=8", "logger=none", "callbacks=none"]
    cfg = compose(f"data={name}", *own, *how, *small, f"trainer.default_root_dir={tmp_path}")
    first, second = build(cfg), build(cfg)
    first.data.reuse_across_jobs = second.data.reuse_across_jobs = True
    first.trainer.fit(first.model, datamodule=first.data)
    before = {name: read_all(first.data.examples[name]) for name in SPLITS}
    second.data.splits = SPLITS
    second.trainer.fit(second.model, datamodule=second.data)
    second.trainer.test(second.model, datamodule=second.data, verbose=False)
    assert same_tensors(first.data, second.data)
    assert first.data.preprocess() == second.data.preprocess()
    assert all(read_all(second.data.examples[name]).equal(before[name]) for name in SPLITS)


# ---- a user's own input


def test_inputs_become_a_batch_as_the_examples_did() -> None:
    class Halves(Numbers):
        def encode(self, splits: dict[SplitName, Examples]) -> dict[SplitName, Examples]:
            return {name: Examples(examples.inputs / 2, examples.targets) for name, examples in splits.items()}

    inputs, targets = Halves(30, 30).collate([torch.tensor(3), torch.tensor(4)])
    assert inputs.tolist() == [1.5, 2.0]
    assert targets is None


def test_texts_stay_a_list_until_they_are_encoded() -> None:
    seen = []

    class Words(Numbers):
        def encode(self, splits: dict[SplitName, Examples]) -> dict[SplitName, Examples]:
            seen.append(splits["test"].inputs)
            return splits

    Words(30, 30).collate(["a", ""])
    assert seen == [["a", ""]]


def test_a_data_set_that_reads_no_input_says_what_to_type_instead() -> None:
    with pytest.raises(UserError, match="input=photos: Numbers reads no input of your own; type split=test"):
        Numbers(30, 30).iter_inputs("photos")


# ---- the order of the examples


def test_an_epoch_shows_every_example_exactly_once() -> None:
    assert sorted(flat(epoch(ShardedBatchSampler(100, batch_size=7, shuffle_seed=1)))) == list(range(100))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    one, other = (
        ShardedBatchSampler(100, batch_size=7, shuffle_seed=1),
        ShardedBatchSampler(100, batch_size=7, shuffle_seed=1),
    )
    epoch(one, 1)
    torch.manual_seed(5)
    assert epoch(one, 2) == epoch(other, 2)


def test_the_order_differs_from_epoch_to_epoch_and_from_seed_to_seed() -> None:
    one, other = (
        ShardedBatchSampler(100, batch_size=7, shuffle_seed=1),
        ShardedBatchSampler(100, batch_size=7, shuffle_seed=2),
    )
    assert epoch(one, 0) != epoch(one, 1)
    assert epoch(one, 0) != epoch(other, 0)
    assert epoch(one, 1) != epoch(other, 0)


def test_any_number_of_processes_sees_the_same_global_batches() -> None:
    alone = [set(batch) for batch in epoch(ShardedBatchSampler(121, batch_size=12, shuffle_seed=1), 3)]
    for world in (2, 3):
        shares = [
            epoch(ShardedBatchSampler(121, batch_size=12 // world, shuffle_seed=1, rank=rank, world=world), 3)
            for rank in range(world)
        ]
        together = [set().union(*(share[step] for share in shares)) for step in range(len(shares[0]))]
        assert together == alone[: len(together)]
        assert len(together) == 10  # 121 = 10 x 12 + 1, and one example is too few for a step


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_in_training_each_process_makes_the_same_number_of_steps(world: int, batch_size: int) -> None:
    for length in range(world, 40):
        counts = {
            len(epoch(ShardedBatchSampler(length, batch_size=batch_size, shuffle_seed=1, rank=rank, world=world)))
            for rank in range(world)
        }
        assert counts == {len(ShardedBatchSampler(length, batch_size=batch_size, shuffle_seed=1, world=world))}


@pytest.mark.parametrize("world", [1, 2, 3])
def test_in_training_no_process_has_a_batch_of_one_example(world: int) -> None:
    for length in range(2 * world, 60):
        for rank in range(world):
            batches = epoch(ShardedBatchSampler(length, batch_size=8, shuffle_seed=1, rank=rank, world=world))
            assert min(map(len, batches)) >= 2


def test_a_last_training_batch_of_one_example_is_left_out() -> None:
    batches = ShardedBatchSampler(129, batch_size=64, shuffle_seed=1)  # 129 = 2 x 64 + 1
    assert [len(batch) for batch in epoch(batches)] == [64, 64]
    left_out = [set(range(129)) - set(flat(epoch(batches, number))) for number in range(5)]
    assert len(set.union(*left_out)) > 1  # another one each epoch


def test_a_last_training_batch_of_two_examples_is_kept() -> None:
    assert [len(batch) for batch in epoch(ShardedBatchSampler(130, batch_size=64, shuffle_seed=1))] == [64, 64, 2]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_training_set_smaller_than_a_batch_is_one_batch(length: int) -> None:
    assert [len(batch) for batch in epoch(ShardedBatchSampler(length, batch_size=64, shuffle_seed=1))] == [length]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [4, 257, 512, 513])
def test_evaluation_counts_every_example_exactly_once(length: int, world: int) -> None:
    shares = [flat(epoch(ShardedBatchSampler(length, batch_size=128, rank=rank, world=world))) for rank in range(world)]
    assert sorted(flat(shares)) == list(range(length))


def test_two_processes_share_257_examples_without_padding() -> None:
    shares = [epoch(ShardedBatchSampler(257, batch_size=128, rank=rank, world=2)) for rank in range(2)]
    assert [[len(batch) for batch in share] for share in shares] == [[128, 1], [128]]  # 257 = 2 x 128 + 1


def test_without_reshuffling_every_epoch_has_the_order_of_the_first() -> None:
    batches = ShardedBatchSampler(100, batch_size=7, shuffle_seed=1, reshuffle=False)
    assert epoch(batches, 0) == epoch(batches, 1) == epoch(ShardedBatchSampler(100, batch_size=7, shuffle_seed=1), 0)


def test_evaluation_keeps_the_order_in_every_epoch() -> None:
    batches = ShardedBatchSampler(5, batch_size=2)
    assert epoch(batches, 0) == epoch(batches, 1) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("shuffle_seed", [None, 1])
def test_the_length_is_that_of_an_epoch(shuffle_seed: int | None) -> None:
    for length in range(1, 30):
        batches = ShardedBatchSampler(length, batch_size=4, shuffle_seed=shuffle_seed)
        assert len(batches) == len(epoch(batches))


def test_mixed_numbers_make_a_seed_of_their_own() -> None:
    seeds = [derive_seed(first, second, third) for first in range(5) for second in range(5) for third in range(5)]
    assert len(set(seeds)) == 125
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, 2) == derive_seed(1, 2)


# ---- batches


def test_a_batch_is_inputs_and_labels_side_by_side() -> None:
    loader = Loader(Examples(torch.arange(5) * 10, torch.arange(5)), ShardedBatchSampler(5, batch_size=2))
    assert [(inputs.tolist(), labels.tolist()) for inputs, labels in loader] == [
        ([0, 10], [0, 1]),
        ([20, 30], [2, 3]),
        ([40], [4]),
    ]
    assert len(loader) == 3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_rows_are_those_that_indexing_gives_in_the_same_layout(layout: torch.memory_format) -> None:
    images, index = torch.rand(6, 3, 4, 5).contiguous(memory_format=layout), torch.tensor([4, 0, 4])
    assert index_rows(images, index).equal(images[index])
    assert index_rows(images.flatten(1), index).equal(images.flatten(1)[index])
    if layout == torch.channels_last:
        assert index_rows(images, index).is_contiguous(memory_format=layout)


def test_examples_know_the_memory_that_they_take() -> None:
    examples = Examples(torch.zeros(10, 3, dtype=torch.uint8), torch.zeros(10, dtype=torch.long))
    assert examples.bytes == 10 * 3 * 1 + 10 * 8


def placed(on_device: bool | None, *, free: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether 100 examples of 16 bytes would lie on a GPU with so many bytes free."""
    data = ready(50, 50, on_device=on_device)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2 * free))
    return data.fits_on(torch.device("cuda"))


def test_examples_lie_on_a_gpu_if_they_take_at_most_half_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert placed(None, free=3200, monkeypatch=monkeypatch)
    assert not placed(None, free=3199, monkeypatch=monkeypatch)
    assert placed(True, free=0, monkeypatch=monkeypatch)
    assert not placed(False, free=3200, monkeypatch=monkeypatch)
    assert not ready(50, 50).fits_on(torch.device("cpu"))


def test_examples_are_brought_to_a_device_once() -> None:
    data, meta = ready(50, 50, on_device=True), torch.device("meta")
    first = data.examples_on(meta, "train")
    assert first.targets.device == meta
    assert data.examples_on(meta, "train") is first
    assert data.examples["train"].targets.device.type == "cpu"


@pytest.mark.parametrize(("device", "early"), [("cuda", True), ("mps", False)])
def test_a_batch_is_on_its_way_while_the_next_line_runs_where_that_is_safe(
    device: str, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = []

    def to(tensor: torch.Tensor, device: torch.device, *, non_blocking: bool) -> torch.Tensor:
        moved.append((id(tensor), device.type, non_blocking))
        return tensor

    batch: Any = (torch.zeros(2), {"image": torch.zeros(2)})
    data = ready(50, 50)
    monkeypatch.setattr(torch.Tensor, "to", to)
    data.transfer_batch_to_device(batch, torch.device(device), 0)
    assert moved == [(id(batch[0]), device, early), (id(batch[1]["image"]), device, early)]


def test_training_and_evaluation_have_batch_sizes_of_their_own() -> None:
    data = ready(50, 50, official=["val", "test"], batch_size=32, eval_batch_size=60)
    assert [len(labels) for _, labels in data.train_dataloader()] == [32, 32, 32, 4]
    assert [len(labels) for _, labels in data.val_dataloader()] == [60, 40]


def test_only_training_is_shuffled() -> None:
    data = ready(50, 50, official=["val", "test"])
    assert torch.cat([inputs for inputs, _ in data.train_dataloader()]).tolist() != list(range(100))
    assert torch.cat([inputs for inputs, _ in data.loader("train")]).tolist() == list(range(100))
    assert torch.cat([inputs for inputs, _ in data.val_dataloader()]).tolist() == list(range(1000, 1100))


def test_a_test_run_goes_through_the_splits_it_is_asked_for() -> None:
    data = ready(50, 50)
    assert [len(loader.examples) for loader in data.test_dataloader()] == [20]
    data.splits = ("train", "val", "test")
    assert [len(loader.examples) for loader in data.test_dataloader()] == [72, 8, 20]


def test_an_epoch_that_goes_on_leaves_out_what_is_done_and_the_next_one_nothing() -> None:
    sampler = ShardedBatchSampler(20, batch_size=6, shuffle_seed=3)
    loader = Loader(Examples(torch.arange(20), torch.arange(20)), sampler)
    whole = [batch[0].tolist() for batch in loader]
    loader.skip = 2
    assert [batch[0].tolist() for batch in loader] == whole[2:]
    assert [batch[0].tolist() for batch in loader] == whole


def test_loaders_draw_nothing_from_the_global_random_state() -> None:
    data = ready(50, 50)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    for loader in (data.train_dataloader(), data.val_dataloader(), *data.test_dataloader()):
        assert sum(1 for _ in loader)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert random.getstate() == before[2]


# ---- under Lightning's trainer

BARE: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


class Watcher(lightning.LightningModule):
    """Writes down the examples of each training step, by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[list[int]]] = {}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        self.seen.setdefault(self.current_epoch, []).append(batch[0].tolist())
        return self.weight * batch[0].float().mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        assert batch[0].dim() == batch[1].dim() == 1, f"batch {batch_idx} has lost its first dimension"

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_trainer_sees_the_order_of_each_epoch() -> None:
    data, watcher = Numbers(20, 20, official=["val", "test"], batch_size=16, seed=7), Watcher()
    lightning.Trainer(**BARE, max_epochs=3).fit(watcher, datamodule=data)
    batches = ShardedBatchSampler(40, batch_size=16, shuffle_seed=7)
    assert watcher.seen == {number: epoch(batches, number) for number in range(3)}


@pytest.mark.parametrize(("shuffle", "limit"), [(False, "limit_train_batches"), (True, "overfit_batches")])
def test_a_trainer_told_to_overfit_sees_the_same_mixed_batch_again_and_again(shuffle: bool, limit: str) -> None:
    data, watcher = Numbers(20, 20, official=["val", "test"], batch_size=16, shuffle=shuffle), Watcher()
    lightning.Trainer(**{**BARE, "max_epochs": 2, limit: 1}).fit(watcher, datamodule=data)
    assert watcher.seen[0] == watcher.seen[1]
    assert [len(batch) for batch in watcher.seen[0]] == [16]
    assert {number >= 20 for number in watcher.seen[0][0]} == {True, False}  # of both classes


# ---- a refit


def test_a_refit_trains_on_validation_too_and_leaves_the_test_as_it_was() -> None:
    plain, refit = ready(50, 50), ready(50, 50, refit=True)
    assert torch.equal(refit.examples["test"].inputs, plain.examples["test"].inputs)
    train = {int(number) for number in refit.examples["train"].inputs}
    assert train == {int(n) for name in ("train", "val") for n in plain.examples[name].inputs}


@pytest.mark.parametrize("settings", [{"fold": 1}, {"official": ("val", "test")}], ids=["a fold", "an official split"])
def test_a_refit_knows_every_kind_of_validation(settings: dict[str, Any]) -> None:
    plain, refit = ready(50, 50, **settings), ready(50, 50, refit=True, **settings)
    expected = [*plain.examples["train"].inputs.tolist(), *plain.examples["val"].inputs.tolist()]
    assert sorted(refit.examples["train"].inputs.tolist()) == sorted(expected)
    assert len(refit.examples["train"].targets) == len(expected)


def test_examples_that_are_texts_or_have_no_targets_are_joined() -> None:
    assert join(Examples(["a"]), Examples(["b", "c"])) == Examples(["a", "b", "c"])


def test_examples_in_files_of_each_split_are_not_joined() -> None:
    rows = Examples(MemoryRows(torch.zeros(3, 2)))
    with pytest.raises(UserError, match=r"data\.refit=true: validation has its own files"):
        join(rows, rows)
