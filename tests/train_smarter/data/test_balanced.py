"""Epochs that draw every class equally often."""

import logging
from collections import Counter

import pytest
import torch

from train_smarter.data.balanced import BalancedOrder
from train_smarter.data.base import Data
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.loader import ShardedBatchSampler
from train_smarter.errors import UserError

SIZES = (3, 10, 87)  # examples of each class
CLASSES = torch.arange(3).repeat_interleave(torch.tensor(SIZES))


class Rare(Data):
    """Each example is its own number; classes have 3, 10 and 87 of them."""

    def read(self) -> RawDataset:
        return RawDataset(["a", "b", "c"], Examples(torch.arange(100), CLASSES))


class Measured(Rare):
    def read(self) -> RawDataset:
        return RawDataset([], Examples(torch.arange(100), torch.arange(100).float()))


def epoch(number: int, *, seed: int = 1, batch_size: int = 10, rank: int = 0, world: int = 1) -> list[list[int]]:
    sampler = ShardedBatchSampler(
        *(100,), batch_size=batch_size, shuffle_seed=seed, balanced=BalancedOrder(CLASSES), rank=rank, world=world
    )
    sampler.set_epoch(number)
    return [batch.tolist() for batch in sampler]


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


def per_class(drawn: list[int]) -> list[int]:
    return torch.bincount(CLASSES[torch.tensor(drawn)], minlength=3).tolist()


def test_an_epoch_has_as_many_examples_as_before_and_a_third_of_each_of_three_classes() -> None:
    for number in range(5):
        drawn = flat(epoch(number))
        assert len(drawn) == 100
        assert sorted(per_class(drawn)) == [33, 33, 34]


def test_a_rare_class_is_repeated_evenly_and_a_frequent_one_has_no_example_twice() -> None:
    for number in range(5):
        times = Counter(flat(epoch(number)))
        assert {times[rare] for rare in range(3)} <= {11, 12}  # 33 or 34 draws of 3 examples
        assert {times[common] for common in range(3, 13)} <= {3, 4}  # of 10
        assert max(times[frequent] for frequent in range(13, 100)) == 1  # of 87


def test_over_the_epochs_every_example_of_a_frequent_class_is_drawn() -> None:
    assert set(flat([flat(epoch(number)) for number in range(30)])) == set(range(100))


def test_classes_are_mixed_within_an_epoch() -> None:
    halves = [per_class(flat(epoch(0))[:50]), per_class(flat(epoch(0))[50:])]
    assert min(halves[0]) > 5
    assert min(halves[1]) > 5


def test_the_draws_depend_on_seed_and_epoch_alone() -> None:
    torch.manual_seed(5)
    once = epoch(2)
    torch.manual_seed(6)
    assert epoch(2) == once
    assert epoch(3) != once
    assert epoch(2, seed=2) != once


def test_two_processes_share_the_draws_of_one() -> None:
    alone = epoch(3)
    shares = [epoch(3, batch_size=5, rank=rank, world=2) for rank in range(2)]
    assert [sorted(one + other) for one, other in zip(*shares, strict=True)] == [sorted(batch) for batch in alone]


def test_one_class_or_more_classes_than_examples_in_a_batch_are_no_special_case() -> None:
    generator = torch.Generator().manual_seed(0)
    assert sorted(BalancedOrder(torch.zeros(7, dtype=torch.long))(generator).tolist()) == list(range(7))
    assert sorted(BalancedOrder(torch.tensor([5, 2, 9]))(generator).tolist()) == [0, 1, 2]


def ready(**given: object) -> Data:
    data = Rare(num_classes=3, **given)  # type: ignore[arg-type]
    data.setup()
    return data


def test_training_alone_is_balanced() -> None:
    data = ready(sampler="balanced", batch_size=100)
    train = len(data.examples["train"])
    ((numbers, classes),) = list(data.train_dataloader())
    assert len(numbers) == train
    assert max(classes.bincount()) - min(classes.bincount()) <= 1
    assert classes.equal(CLASSES[numbers])
    assert [len(batch[0]) for batch in data.loader("train")] == [train]  # evaluated as it is
    assert set(torch.cat([batch[0] for batch in data.loader("train")]).tolist()) == set(
        data.examples["train"].inputs.tolist()
    )


def test_a_resumed_epoch_draws_what_is_left_of_it() -> None:
    whole, resumed = (ready(sampler="balanced", batch_size=10, seed=3).train_dataloader() for _ in range(2))
    for loader in (whole, resumed):
        loader.sampler.set_epoch(4)
    resumed.skip = 3
    assert [batch[0].tolist() for batch in resumed] == [batch[0].tolist() for batch in whole][3:]


def test_a_run_without_a_sampler_has_every_example_once() -> None:
    data = ready()
    drawn = torch.cat([batch[0] for batch in data.train_dataloader()])
    assert sorted(drawn.tolist()) == sorted(data.examples["train"].inputs.tolist())


def test_targets_that_are_no_classes_are_refused() -> None:
    data = Measured(num_targets=1, sampler="balanced")
    with pytest.raises(UserError, match=r"data\.sampler=balanced draws classes equally often, and the targets of Meas"):
        data.setup()


def test_another_sampler_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.sampler=weighted: give balanced, or null"):
        ready(sampler="weighted")


def test_classes_that_a_split_lacks_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    class Single(Data):
        def read(self) -> RawDataset:
            return RawDataset(["one", "two", "many"], Examples(torch.arange(50), torch.tensor([0, 1, 1] + [2] * 47)))

    with caplog.at_level(logging.WARNING):
        Single(num_classes=3).setup()
    assert caplog.messages == [
        "no example in val of ['one', 'two'], test of ['one']: their classes have too few for every split"
    ]
