import numpy as np
import pytest
import torch

from my_project.data.ratings import Ratings
from my_project.model import ease
from my_project.model.ease import EASE, count_pairs
from my_project.model.popular import Popular
from train_smarter import Rating, UserError

CONTRACT_OVERRIDES = ["model.l2=10"]


def made() -> Ratings:
    data = Ratings(num_users=20, num_items=6, per_user=4)
    data.setup()
    return data


def test_pairs_of_items_are_counted_a_part_of_the_users_at_a_time() -> None:
    matrix = (torch.rand(50, 7, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    users, items = matrix.nonzero(as_tuple=True)
    order = torch.randperm(len(users))
    assert count_pairs(users[order], items[order], 7, at_once=20).equal(matrix.T @ matrix)


def test_each_item_has_the_weights_of_a_ridge_regression_on_the_others() -> None:
    data, model = made(), EASE(task=Rating(), num_items=6, l2=2.0)
    model.solve(data)
    matrix = np.zeros((20, 6))
    rows = data.parts.train
    matrix[data.interactions.users[rows], data.interactions.items[rows]] = 1
    for item in range(6):
        others = [column for column in range(6) if column != item]
        given = matrix[:, others]
        expected = np.linalg.solve(given.T @ given + 2.0 * np.eye(5), given.T @ matrix[:, item])
        assert model.weights[others, item].numpy() == pytest.approx(expected, abs=1e-5)
    assert not model.weights.diagonal().any()


def test_a_score_is_the_sum_of_the_weights_from_the_items_of_the_history() -> None:
    model = EASE(task=Rating(), num_items=3)
    model.weights.copy_(torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 4.0], [5.0, 6.0, 0.0]]))
    scores = model({"user": torch.tensor([-1, 0]), "history": torch.tensor([[-1, -1], [0, 2]])})
    assert scores.tolist() == [[0.0, 0.0, 0.0], [5.0, 7.0, 2.0]]


def test_what_does_not_fit_into_memory_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "free_memory", lambda: 19 * 100**2)
    with pytest.raises(UserError, match=r"pairs of 100 items take 0\.0 GB .* type model=mf"):
        EASE(task=Rating(), num_items=100)
    assert EASE(task=Rating(), num_items=97).weights.shape == (97, 97)


def test_popular_items_are_those_with_most_training_interactions() -> None:
    data, model = made(), Popular(task=Rating(), num_items=6)
    model.solve(data)
    scores = model({"user": torch.tensor([0, 5]), "history": torch.full((2, 1), -1)})
    assert scores[0].equal(scores[1])
    counts = data.interactions.items[data.parts.train].bincount(minlength=6) + 1
    assert scores[0].exp().tolist() == pytest.approx((counts / counts.sum()).tolist())


@pytest.mark.parametrize("model", [EASE(task=Rating(), num_items=3), Popular(task=Rating(), num_items=3)])
def test_pairs_to_rate_are_refused(model: EASE | Popular) -> None:
    with pytest.raises(UserError, match="type task=ranking"):
        model({"user": torch.tensor([0]), "item": torch.tensor([1])})
