"""Texts of different lengths: what a batch holds, and which of them share one."""

from typing import Any

import pytest
import torch
from torch import Tensor

from train_smarter.data.examples import Examples, read_rows, split_rows
from train_smarter.data.loader import Loader, ShardedBatchSampler
from train_smarter.data.token_rows import BUCKET, TokenRows, bucket_by_length

PAD = 9


def rows() -> TokenRows:
    return TokenRows.from_ids([[1, 2], [3], [], [4, 5, 6]], PAD)


def test_a_batch_is_padded_to_its_longest_text() -> None:
    batch = read_rows(rows(), torch.tensor([1, 0]))
    assert batch["input_ids"].tolist() == [[3, PAD], [1, 2]]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64


def test_the_last_text_is_padded_by_the_padding_id_and_not_by_what_follows() -> None:
    assert read_rows(rows(), torch.tensor([3, 1]))["input_ids"].tolist() == [[4, 5, 6], [3, PAD, PAD]]


def test_an_empty_text_is_one_token_that_attention_sees() -> None:
    batch = read_rows(rows(), torch.tensor([2]))
    assert (batch["input_ids"].tolist(), batch["attention_mask"].tolist()) == ([[PAD]], [[1]])


def test_a_piece_has_the_lengths_of_its_texts() -> None:
    piece = Examples(rows(), torch.arange(4)).take(torch.tensor([3, 0]))
    assert (piece.inputs.lengths.tolist(), piece.targets.tolist()) == ([3, 2], [3, 0])
    assert piece.inputs.nbytes == 5 * 4
    assert [part["input_ids"].tolist() for part in split_rows(piece.inputs, 1)] == [[[4, 5, 6]], [[1, 2]]]


# ---- batches of near lengths


def lengths(count: int) -> Tensor:
    return torch.randint(1, 500, (count,), generator=torch.Generator().manual_seed(0))


def sampler(count: int, **options: Any) -> ShardedBatchSampler:
    return ShardedBatchSampler(count, batch_size=8, shuffle_seed=3, lengths=lengths(count), **options)


def spread(batches: list[Tensor], size: Tensor) -> float:
    """The mean difference of the longest and the shortest text of a batch."""
    return sum(float(size[batch].max() - size[batch].min()) for batch in batches) / len(batches)


@pytest.mark.parametrize("count", [5, 8, 403, 8 * BUCKET + 8, 1000])
def test_every_text_comes_once_an_epoch(count: int) -> None:
    # Of 403, a last batch of three; an epoch leaves out none of them.
    assert torch.cat(list(sampler(count))).sort().values.equal(torch.arange(count))


def test_batches_hold_texts_of_near_lengths_and_come_in_no_order_of_length() -> None:
    plain = list(ShardedBatchSampler(4000, batch_size=8, shuffle_seed=3))
    batches = list(sampler(4000))
    # 400 sorted texts of 1 to 499 tokens: neighbours in a batch of 8 differ by about 499 / 50 = 10.
    assert spread(batches, lengths(4000)) < 15 < 300 < spread(plain, lengths(4000))
    longest = torch.tensor([float(lengths(4000)[batch].max()) for batch in batches])
    assert abs(float(torch.corrcoef(torch.stack([longest, torch.arange(500.0)]))[0, 1])) < 0.15


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first, again, other = sampler(1000), sampler(1000), sampler(1000)
    other.set_epoch(1)
    assert torch.cat(list(first)).equal(torch.cat(list(again)))
    assert not torch.cat(list(first)).equal(torch.cat(list(other)))


def test_texts_that_share_a_batch_change_with_the_epoch() -> None:
    one, two = sampler(1000), sampler(1000)
    two.set_epoch(1)
    shared = {frozenset(batch.tolist()) for batch in one} & {frozenset(batch.tolist()) for batch in two}
    assert not shared


def test_processes_share_the_batches_of_one() -> None:
    """Two processes with batches of 8 train on the batches that one process with 16 would have."""
    together = ShardedBatchSampler(1000, batch_size=16, shuffle_seed=3, lengths=lengths(1000))
    shares = [list(sampler(1000, rank=rank, world=2)) for rank in (0, 1)]
    for whole, *parts in zip(together, *shares, strict=True):
        assert whole.sort().values.equal(torch.cat(parts).sort().values)


def test_evaluation_keeps_the_order_of_the_examples() -> None:
    ordered = ShardedBatchSampler(20, batch_size=8, lengths=lengths(20))
    assert torch.cat(list(ordered)).equal(torch.arange(20))


def test_an_epoch_that_goes_on_has_the_batches_that_were_left() -> None:
    texts = TokenRows.from_ids([[7] * int(size) for size in lengths(100)], PAD)
    whole, rest = (Loader(Examples(texts, torch.arange(100)), sampler(100)) for _ in range(2))
    rest.skip = 4
    for (tokens, labels), (others, true) in zip(list(whole)[4:], rest, strict=True):
        assert labels.equal(true)
        assert tokens["input_ids"].equal(others["input_ids"])


def test_a_smaller_last_batch_stays_last() -> None:
    order = bucket_by_length(torch.arange(10), torch.arange(10), 4, torch.Generator().manual_seed(0))
    assert order[8:].tolist() == [8, 9]
    assert {frozenset(batch.tolist()) for batch in order[:8].split(4)} == {frozenset(range(4)), frozenset(range(4, 8))}
