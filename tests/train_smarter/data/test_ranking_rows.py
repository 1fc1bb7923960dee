import torch
from torch import Tensor

from train_smarter.data.interaction_splits import InteractionSplit
from train_smarter.data.interactions import Interactions
from train_smarter.data.ranking_rows import ListRows, PairRows, ranking_examples

# User 0 has items 3, 1, 2, 0 at times 4, 3, 2, 1; user 1 items 4, 0; user 2 item 2.
DATA = Interactions(
    users=torch.tensor([0, 0, 0, 0, 1, 1, 2]),
    items=torch.tensor([3, 1, 2, 0, 4, 0, 2]),
    values=None,
    times=torch.tensor([4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64),
    user_names=["a", "b", "c"],
    item_names=list("vwxyz"),
)


def rows(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.long)


def parts(*, train: Tensor, val: Tensor, test: Tensor, seen: Tensor | None = None) -> InteractionSplit:
    return InteractionSplit(train, val, test, rows() if seen is None else seen, "")


SPLIT = parts(train=rows(2, 3, 4, 5, 6), val=rows(1), test=rows(0))


def test_lists_are_padded_on_the_left_to_the_longest_of_a_batch() -> None:
    lists = ListRows(torch.tensor([7, 8, 9, 5]), torch.tensor([0, 3, 3, 4]))
    assert lists.read(torch.tensor([0, 1, 2])).tolist() == [[7, 8, 9], [-1, -1, -1], [-1, -1, 5]]
    assert lists.read(torch.tensor([2, 1])).tolist() == [[5], [-1]]
    assert lists.read(torch.tensor([1])).shape == (1, 0)
    assert lists.take(torch.tensor([2])).read().tolist() == [[5]]


def test_no_list_is_an_empty_batch() -> None:
    assert ListRows(rows(), torch.tensor([0, 0])).read(torch.tensor([0])).shape == (1, 0)


def test_a_training_example_is_a_user_with_its_items_by_time_and_then_by_the_file() -> None:
    train = ranking_examples(DATA, SPLIT, rows="users")["train"]
    assert train.inputs["user"].tolist() == [0, 1, 2]
    assert train.inputs["history"].read().tolist() == [[0, 2], [4, 0], [-1, 2]]
    assert train.targets is None


def test_held_out_users_have_their_known_items_and_those_to_find() -> None:
    examples = ranking_examples(DATA, SPLIT, rows="users")
    val, test = examples["val"], examples["test"]
    assert (val.inputs["user"].tolist(), test.inputs["user"].tolist()) == ([0], [0])  # the others have none to find
    assert (val.inputs["history"].read().tolist(), val.targets["items"].read().tolist()) == ([[0, 2]], [[1]])
    assert val.targets["val"].read().shape == (1, 0)
    assert (test.inputs["history"].read().tolist(), test.targets["items"].read().tolist()) == ([[0, 2, 1]], [[3]])
    assert test.targets["val"].read().tolist() == [[1]]


def test_the_seen_items_of_held_out_users_are_known_and_not_trained_on() -> None:
    split = parts(train=rows(0, 1, 2, 3), val=rows(6), test=rows(4), seen=rows(5))
    examples = ranking_examples(DATA, split, rows="users")
    assert examples["train"].inputs["user"].tolist() == [0]
    assert examples["test"].inputs["history"].read().tolist() == [[0]]
    assert examples["val"].inputs["history"].read().shape == (1, 0)  # user 2 has no other item


def test_a_refit_trains_on_validation_which_is_still_measured_without_it() -> None:
    split = parts(train=rows(1, 2, 3, 4, 5, 6), val=rows(1), test=rows(0))
    examples = ranking_examples(DATA, split, rows="users")
    assert examples["train"].inputs["history"].read(rows(0)).tolist() == [[0, 2, 1]]
    assert examples["val"].inputs["history"].read().tolist() == [[0, 2]]
    assert examples["test"].inputs["history"].read().tolist() == [[0, 2, 1]]


def test_pairs_have_an_item_of_the_user_and_one_that_it_has_not() -> None:
    pairs = ranking_examples(DATA, SPLIT, rows="pairs")["train"].inputs
    known = {(0, 2), (0, 0), (1, 4), (1, 0), (2, 2)}
    for epoch in range(20):
        batch = pairs.read(rows(0, 1, 2, 3, 4), epoch=epoch)
        first, other = ({*zip(batch["user"].tolist(), column, strict=True)} for column in batch["item"].T.tolist())
        assert first == known
        assert not other & known


def test_negatives_depend_on_the_epoch_and_not_on_the_batch() -> None:
    pairs = PairRows(torch.zeros(50, dtype=torch.long), torch.arange(50), 1000)
    whole = pairs.read(torch.arange(50), epoch=3)["item"]
    assert pairs.read(rows(40, 7), epoch=3)["item"].equal(whole[[40, 7]])
    assert (pairs.read(torch.arange(50), epoch=4)["item"][:, 1] != whole[:, 1]).float().mean() > 0.9


def test_negatives_are_drawn_alike() -> None:
    pairs = PairRows(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), 5)
    drawn = torch.cat([pairs.read(rows(0), epoch=epoch)["item"][:, 1] for epoch in range(4000)])
    counts = drawn.bincount(minlength=5)
    assert counts[0] == 0
    assert (counts[1:] - 1000).abs().max() < 120  # a standard deviation is 27


def test_a_user_with_all_items_has_some_negative() -> None:
    pairs = PairRows(torch.zeros(3, dtype=torch.long), torch.arange(3), 3)
    assert pairs.read()["item"].shape == (3, 2)
