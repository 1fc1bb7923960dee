from typing import Any

import numpy as np
import pytest
import torch

from train_smarter.data.interaction_splits import InteractionSplit, SplitSettings, split_interactions
from train_smarter.data.interactions import Interactions
from train_smarter.errors import UserError


def made(users: list[int], times: list[float] | None = None) -> Interactions:
    """Each row has an item of its own."""
    return Interactions(
        users=torch.tensor(users),
        items=torch.arange(len(users)),
        values=None,
        times=None if times is None else torch.tensor(times).double(),
        user_names=[f"u{index}" for index in range(max(users) + 1)],
        item_names=[f"i{index}" for index in range(len(users))],
    )


def split(data: Interactions, kind: str, **settings: Any) -> InteractionSplit:
    return split_interactions(data, SplitSettings(kind=kind, **settings))


def sizes(data: Interactions, rows: torch.Tensor) -> list[int]:
    return data.users[rows].bincount(minlength=data.num_users).tolist()


def assert_disjoint(data: Interactions, parts: InteractionSplit) -> None:
    together = torch.cat([parts.train, parts.val, parts.test, parts.seen])
    assert together.sort().values.tolist() == list(range(len(data)))


def test_a_random_split_takes_a_share_of_each_user_as_recbole_does() -> None:
    data = made([0] * 30 + [1] * 25 + [2] * 9 + [3] * 2 + [4])
    parts = split(data, "random")
    assert_disjoint(data, parts)
    # int(0.1 n); below 10 rows one for test, then one for validation, while training keeps one.
    assert sizes(data, parts.test) == [3, 2, 1, 1, 0]
    assert sizes(data, parts.val) == [3, 2, 1, 0, 0]


def test_a_random_split_depends_on_the_seed_alone() -> None:
    data = made([0] * 50 + [1] * 50)
    first, again, other = (split(data, "random", seed=seed).test.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_the_last_two_rows_of_a_user_are_held_out() -> None:
    data = made([0, 0, 0, 1, 1, 1, 1, 2, 2], [3.0, 1.0, 2.0, 9.0, 8.0, 7.0, 6.0, 1.0, 2.0])
    parts = split(data, "last")
    assert parts.test.tolist() == [0, 3]
    assert parts.val.tolist() == [2, 4]
    assert_disjoint(data, parts)
    assert "0 of 2 users (0%) have their last two rows at the same time" in " ".join(parts.notes)
    assert "1 users with fewer than 3 rows are in training only" in parts.notes


def test_rows_of_one_time_are_ordered_by_a_draw_and_counted() -> None:
    data = made([0, 0, 0, 0] * 50, [5.0] * 200)
    tests = {tuple(split(made([0] * 40, [5.0] * 40), "last", seed=seed).test.tolist()) for seed in range(20)}
    assert len(tests) > 10  # neither the order of the file nor that of the items
    assert "1 of 1 users (100%) have their last two rows at the same time" in " ".join(split(data, "last").notes)


def test_a_split_by_time_never_divides_rows_of_one_time() -> None:
    data = made([0, 1] * 10, [float(number // 4) for number in range(20)])
    parts = split(data, "time", val_fraction=0.1, test_fraction=0.1)
    assert parts.test.tolist() == [16, 17, 18, 19]  # the latest tenth begins within them
    assert parts.val.tolist() == [12, 13, 14, 15]
    assert parts.leak == ""


def test_training_precedes_a_test_by_time() -> None:
    times = np.random.default_rng(0).permutation(100).astype(float).tolist()
    data = made([number % 7 for number in range(100)], times)
    parts = split(data, "time")
    assert data.times is not None
    latest = [float(data.times[rows].max()) for rows in (parts.train, parts.val, parts.test)]
    assert latest == [79.0, 89.0, 99.0]


def test_held_out_users_have_no_row_in_training() -> None:
    data = made([number // 10 for number in range(200)])  # 20 users of 10 rows
    parts = split(data, "users", val_fraction=0.1, test_fraction=0.2)
    assert_disjoint(data, parts)
    train, val, test, seen = (
        set(data.users[rows].tolist()) for rows in (parts.train, parts.val, parts.test, parts.seen)
    )
    assert (len(train), len(val), len(test)) == (14, 2, 4)
    assert seen == val | test
    assert not train & seen
    assert len(parts.test) == 4 * 2  # target_fraction 0.2 of 10 rows


def test_a_user_of_one_row_is_never_held_out() -> None:
    data = made([0, *[1] * 10, *[2] * 10, *[3] * 10])
    for seed in range(5):
        assert 0 in split(data, "users", val_fraction=0.3, test_fraction=0.3, seed=seed).train.tolist()


def test_folds_are_the_pieces_of_a_seeded_permutation() -> None:
    data = made([0] * 100)
    expected = np.random.RandomState(0).permutation(100)
    for fold in range(5):
        parts = split(data, "folds", fold=fold)
        assert parts.test.tolist() == sorted(expected[20 * fold : 20 * fold + 20].tolist())
        assert len(parts.val) == 8  # a tenth of the other 80
        assert_disjoint(data, parts)


def test_every_split_but_that_by_time_names_its_leak() -> None:
    data = made([number % 5 for number in range(100)], [float(number) for number in range(100)])
    for kind in ("random", "last", "users", "folds"):
        parts = split(data, kind, val_fraction=0.2, test_fraction=0.2)
        assert "later than those of the test" in parts.leak
        assert parts.leak in parts.notes[0]


def test_rows_of_items_that_training_lacks_are_counted() -> None:
    parts = split(made([0] * 10), "random")  # each row has an item of its own
    assert "2 of 2 validation and test rows have an item that training lacks" in parts.notes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "radom"}, "data.split=radom: give one of .*; did you mean 'random'"),
        ({"val_fraction": 0}, "data.val_fraction=0: give a number between 0 and 1"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave nothing to train on"),
        ({"fold": 1}, "data.fold=1 needs data.split=folds, and not random"),
        ({"kind": "folds", "fold": 5}, "data.fold=5: give 0 to 4"),
    ],
)
def test_settings_that_make_no_split_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SplitSettings(**settings)


def test_a_split_by_time_without_times_is_refused() -> None:
    for kind in ("time", "last"):
        with pytest.raises(UserError, match=f"data.split={kind} needs times: type data.time=<column>"):
            split(made([0] * 10), kind)


def test_a_split_without_a_row_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.split=last leaves the val split of 4 interactions of 2 users empty"):
        split(made([0, 0, 1, 1], [1.0, 2.0, 1.0, 2.0]), "last")
    with pytest.raises(UserError, match=r"data\.split=time: too few different times to cut a split off, 1"):
        split(made([0, 0, 1, 1], [1.0, 1.0, 1.0, 1.0]), "time")
