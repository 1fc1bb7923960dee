"""Sizes of splits and folds: of the whole, and of each class."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from train_smarter.data.examples import Examples, SplitName
from train_smarter.data.split import Rest, stratified_fold, stratified_split
from train_smarter.errors import UserError


def labels(*sizes: int) -> Tensor:
    """Class 0 `sizes[0]` times, and so on, in a mixed order."""
    ordered = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return ordered[torch.randperm(len(ordered), generator=torch.Generator().manual_seed(0))]


def per_class(given: Tensor, piece: Tensor) -> list[int]:
    counts: list[int] = given[piece].bincount(minlength=int(given.max()) + 1).tolist()
    return counts


@pytest.mark.parametrize(("size", "wanted"), [(14, 140), (15, 150), (5, 50), (20, 200)])
def test_a_tenth_of_a_hundred_small_classes_is_a_tenth(size: int, wanted: int) -> None:
    """Rounded class by class, it was 100, 200, 0 and 200."""
    given = labels(*[size] * 100)
    rest, piece = stratified_split(given, 0.1, seed=0)
    assert len(piece) == wanted
    assert torch.cat([rest, piece]).sort().values.equal(torch.arange(100 * size))
    assert all(abs(count - size / 10) <= 1 for count in per_class(given, piece))


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([14, 13, 12, 11], [1, 1, 1, 1]),  # a tenth is 5; rounded 4, which is off by one example alone
        ([14, 13, 13, 13, 13, 13, 11], [2, 2, 1, 1, 1, 1, 1]),  # 9; rounded 7
        ([16, 17, 17, 17, 18], [1, 1, 2, 2, 2]),  # 8.5; rounded 10
        ([5, 14, 13, 1], [1, 1, 1, 0]),  # 3.3; rounded 2, which is off by more than one; the last example stays
    ],
)
def test_a_total_that_is_off_is_mended_where_rounding_moved_a_class_most(
    sizes: Sequence[int], wanted: Sequence[int]
) -> None:
    given = labels(*sizes)
    assert per_class(given, stratified_split(given, 0.1, seed=0)[1]) == wanted


@pytest.mark.parametrize(
    ("sizes", "fraction", "wanted"),
    [
        ([2, 50, 48], 0.1, [1, 5, 5]),  # a tenth is 10; 11 is off by one example alone
        ([2, 3, 4, 91], 0.1, [1, 1, 1, 8]),  # 10; the largest class makes room
        ([1, 1, 98], 0.2, [0, 0, 20]),  # the only example of a class stays in train
        ([2, 2, 2, 2, 12], 0.1, [0, 0, 0, 0, 1]),  # 2 are too few for one of each of five classes
    ],
)
def test_a_rare_class_has_one_example_in_the_piece_where_the_total_has_room(
    sizes: Sequence[int], fraction: float, wanted: Sequence[int]
) -> None:
    given = labels(*sizes)
    assert per_class(given, stratified_split(given, fraction, seed=0)[1]) == wanted


def test_three_examples_are_enough_for_three_splits() -> None:
    given = labels(3, 97)
    rest, test = stratified_split(given, 0.2, seed=0)
    train, val = stratified_split(given[rest], 0.1, seed=1)
    assert [per_class(given, test)[0], per_class(given[rest], val)[0], per_class(given[rest], train)[0]] == [1, 1, 1]


def test_the_last_example_of_a_class_stays() -> None:
    given = labels(1, 1, 1, 1, 1, 45)  # 0.6 of 45 is 27, and one more for the others
    assert per_class(given, stratified_split(given, 0.6, seed=0)[1]) == [0, 0, 0, 0, 0, 28]


def test_a_split_that_rounding_made_right_is_the_first_share_of_each_shuffled_class() -> None:
    given, generator = labels(10, 20, 30), np.random.default_rng(5)
    shuffled = [generator.permutation(np.flatnonzero(given.numpy() == label)) for label in range(3)]
    wanted = sorted(number for members, count in zip(shuffled, (1, 2, 3), strict=True) for number in members[:count])
    assert stratified_split(given, 0.1, seed=5)[1].tolist() == wanted


@pytest.mark.parametrize("sizes", [[12] * 10, [3] * 10, [7, 13, 22], [1, 1, 9], [50, 1], [101, 33, 4]])
@pytest.mark.parametrize("folds", [2, 3, 5, 7])
def test_folds_differ_by_one_example_in_total_and_of_each_class(sizes: Sequence[int], folds: int) -> None:
    given = labels(*sizes)
    pieces = [stratified_fold(given, folds, fold=fold, seed=3)[1] for fold in range(folds)]
    assert torch.cat(pieces).sort().values.equal(torch.arange(len(given)))
    for counts in zip(*(per_class(given, piece) for piece in pieces), strict=True):
        assert max(counts) - min(counts) <= 1
    totals = sorted(map(len, pieces))
    assert totals[-1] - totals[0] <= 1
    if min(sizes) >= folds:  # else it warns
        theirs = StratifiedKFold(folds).split(given, given)
        assert totals == sorted(len(piece) for _, piece in theirs)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 64])
@pytest.mark.parametrize("folds", [2, 3, 5, 7, 10])
def test_the_pieces_of_any_number_of_folds_cover_any_number_of_examples(count: int, folds: int) -> None:
    given = torch.zeros(count, dtype=torch.long)
    pieces = [stratified_fold(given, folds, fold=fold, seed=3)[1] for fold in range(folds)]
    assert torch.cat(pieces).sort().values.tolist() == list(range(count))


# ---- groups


def grouped(*sizes: int) -> Rest:
    """Examples in groups of these sizes."""
    groups = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return Rest(Examples(torch.arange(len(groups)), None), None, groups)


# Of four groups of 10, in any order, the first one is cut off from a fraction above 5 / 40 on, and the last one from
# 35 / 40 on. Of five folds of 8, the third one holds the middle of no group.
@pytest.mark.parametrize(
    ("split", "fraction", "empty", "cure"), [("val", 0.1, "val", 0.13), ("test", 0.95, "train", 0.87)]
)
def test_groups_too_large_for_a_split_are_named_with_a_fraction_that_fits(
    split: SplitName, fraction: float, empty: str, cure: float
) -> None:
    with pytest.raises(UserError) as caught:
        grouped(10, 10, 10, 10).cut(split, fraction, seed=3)
    assert str(caught.value) == (
        f"data.{split}_fraction={fraction}: no group is divided between splits, and so {empty} is empty: 40 examples "
        f"are in 4 groups of 10 examples; type data.{split}_fraction={cure}, or give data with more groups"
    )
    piece, rest = grouped(10, 10, 10, 10).cut(split, cure, seed=3)
    assert {len(piece), len(rest.examples)} == {10, 30}


def test_groups_too_few_for_the_folds_are_named_with_a_number_that_fits() -> None:
    with pytest.raises(UserError, match=r"data.folds=5: no group .* val is empty: .*; type data.folds=4, or give data"):
        grouped(10, 10, 10, 10).cut_fold(5, fold=2, seed=3)
    assert [len(grouped(10, 10, 10, 10).cut_fold(4, fold=fold, seed=3)[0]) for fold in range(4)] == [10] * 4
    with pytest.raises(UserError, match=r"data.folds=3: .* groups of 1 to 99 examples; type data.folds=2, or"):
        [grouped(1, 99).cut_fold(3, fold=fold, seed=3) for fold in range(3)]


@pytest.mark.parametrize("fold", [None, 0])
def test_one_group_alone_cannot_be_split(fold: int | None) -> None:
    message = r"all 7 examples that are left for train and val are one group: .*data.group=null"
    with pytest.raises(UserError, match=message):
        grouped(7).cut("val", 0.1, seed=0) if fold is None else grouped(7).cut_fold(2, fold=fold, seed=0)
