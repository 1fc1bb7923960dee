"""The best items of users; expected values are counted by hand."""

import pytest
import torch
from torch import Tensor

from train_smarter.data.interaction_inputs import Histories, pad_histories, split_history
from train_smarter.data.interactions import Interactions
from train_smarter.errors import UserError
from train_smarter.task.recommendation import Recommendation
from train_smarter.task.top_items import join_items, mask_items, top_columns, top_items

EMBEDDING = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 4.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]])  # unknown, 0, 1
POPULARITY = torch.tensor([5.0, 1.0, 9.0, 7.0])


def by_user(inputs: dict[str, Tensor]) -> Tensor:
    return EMBEDDING[inputs["user"] + 1]


def by_history(inputs: dict[str, Tensor]) -> Tensor:
    """The items after those of the history."""
    known = inputs["history"]
    scores = torch.zeros(len(known), 5)
    scores.scatter_(1, torch.where(known >= 0, (known + 1) % 4, 4), 1.0)
    return scores[:, :4]


def test_known_items_are_left_out_and_padding_is_not_an_item() -> None:
    inputs = {"user": torch.tensor([0, 0]), "history": torch.tensor([[-1, 1], [2, 3]])}
    found = top_items(by_user, inputs, 2, popularity=POPULARITY)
    assert found["item"].tolist() == [[2, 3], [1, 0]]
    assert found["score"].tolist() == [[3.0, 2.0], [4.0, 1.0]]
    assert found["note"].tolist() == [0, 0]


def test_a_user_of_whom_nothing_is_known_gets_popular_items_and_a_reason() -> None:
    inputs = {"user": torch.tensor([-1, -1, 1, 0]), "history": torch.tensor([[-1], [2], [-1], [-1]])}
    found = top_items(by_user, inputs, 2, popularity=POPULARITY)
    assert found["item"].tolist() == [[2, 3], [3, 0], [2, 3], [1, 2]]
    assert found["score"][0].tolist() == [9.0, 7.0]
    assert found["note"].tolist() == [1, 2, 3, 0]


def test_a_history_is_enough_for_a_model_that_uses_it() -> None:
    inputs = {"user": torch.tensor([-1, -1]), "history": torch.tensor([[-1, 0], [-1, -1]])}
    found = top_items(by_history, inputs, 1, popularity=POPULARITY)
    assert found["item"].tolist() == [[1], [2]]
    assert found["note"].tolist() == [0, 1]


def test_columns_have_what_the_history_leaves() -> None:
    inputs = {"user": torch.tensor([0, 0]), "history": torch.tensor([[-1, 1, 2, 0], [0, 1, 2, 3]])}
    columns = top_columns(top_items(by_user, inputs, 9), ["a", "b", "c", "d"], otherwise="popular items")
    assert columns == {
        "item": [["d"], []],
        "score": [[2.0], []],
        "rank": [[1], []],
        "note": ["", "no item is left: the history holds all of them"],
    }


def test_a_mask_leaves_other_scores_as_they_are() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0]])
    assert mask_items(scores, torch.tensor([[-1, 2]])).tolist() == [[1.0, 2.0, -float("inf")]]
    assert mask_items(scores, torch.tensor([[-1]])).tolist() == scores.tolist()


def test_pairs_are_not_ranked() -> None:
    with pytest.raises(UserError, match="give a file without a column item"):
        top_items(by_user, {"user": torch.tensor([0]), "item": torch.tensor([0])}, 3)


@pytest.mark.parametrize("items", [["007", "b"], ["a b", "c"], ["[x", "y"], ['"', "é"], []])
def test_items_of_a_cell_are_read_back(items: list[str]) -> None:
    assert split_history(join_items(items), {}) == items


def test_a_recommendation_lists_items_for_inputs_and_splits_and_scores_all_for_a_file() -> None:
    task = Recommendation(num_items=4, k=2)
    task.popularity.copy_(POPULARITY)
    inputs = {"user": torch.tensor([0, -1]), "history": torch.tensor([[1], [-1]])}
    names = ["a", "b", "c d", "e"]
    for method in (task.predict_input, task.predict_split):
        columns = task.columns(method(by_user, inputs), names)
        assert columns["item"] == [["c d", "e"], ["c d", "e"]]
        assert columns["note"] == ["", "popular items: unknown user without known items in a history"]
    task.set_top(1)
    assert task.columns(task.predict_split(by_user, inputs), names)["item"] == [["c d"], ["c d"]]
    assert task.predict(by_user(inputs))["scores"].shape == (2, 4)
    assert task.decisions(task.predict(by_user(inputs)))["first item"].tolist() == [1, 0]
    targets = {"items": torch.tensor([[2, 0], [3, -1]])}
    assert task.true_columns(targets, names) == {"true": ['["c d", "a"]', "e"]}


def test_histories_are_in_order_of_time_and_padded_on_the_left() -> None:
    users, items = torch.tensor([1, 0, 1, 0, 1]), torch.tensor([3, 2, 1, 0, 2])
    times = torch.tensor([5.0, 9.0, 4.0, 1.0, 5.0], dtype=torch.float64)
    histories = Histories(Interactions(users, items, None, times, ["a", "b"], ["w", "x", "y", "z"]))
    assert pad_histories([histories[0], histories[1]]).tolist() == [[-1, 0, 2], [1, 3, 2]]
