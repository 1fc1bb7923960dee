"""Losses of rankings; expected values are written out."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from train_smarter.errors import UserError
from train_smarter.task.ranking import Ranking

SCORES = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
HISTORY = torch.tensor([[0, 2], [-1, 1]])


def users_batch(history: Tensor = HISTORY, targets: Any = None) -> Any:
    return {"user": torch.arange(len(history)), "history": history}, targets


def log_share(scores: list[float], item: int) -> float:
    return scores[item] - math.log(sum(math.exp(score) for score in scores))


def test_softmax_is_the_mean_cross_entropy_of_all_items_of_the_users() -> None:
    task = Ranking(num_items=3)
    targets = task.targets(users_batch())
    shares = [log_share(SCORES[user].tolist(), item) for user, item in ((0, 0), (0, 2), (1, 1))]
    assert float(task.loss(SCORES, targets)) == pytest.approx(-sum(shares) / 3)
    assert int(task.weight(targets)) == 3


def test_the_loss_of_a_sequence_is_the_mean_over_the_places_that_are_predicted() -> None:
    task = Ranking(num_items=3)
    outputs = SCORES[:, None]  # (B, 1, I), of the latest item
    shares = [log_share(SCORES[0].tolist(), 2), log_share(SCORES[1].tolist(), 1)]
    assert float(task.loss(outputs, task.targets(users_batch()))) == pytest.approx(-sum(shares) / 2)


def test_users_of_one_item_have_a_sequence_without_a_place_to_predict() -> None:
    task = Ranking(num_items=3)
    outputs = torch.zeros(2, 0, 3, requires_grad=True)
    loss = task.loss(outputs, task.targets(users_batch(torch.tensor([[1], [2]]))))
    loss.backward()
    assert float(loss.detach()) == 0


def test_bpr_compares_an_item_of_the_user_with_another_one() -> None:
    task = Ranking(num_items=3, loss="bpr")
    batch = {"user": torch.tensor([0, 1]), "item": torch.tensor([[0, 1], [2, 1]])}, None
    loss = task.loss(torch.tensor([[2.0, 0.5], [0.0, 1.0]]), task.targets(batch))
    assert float(loss) == pytest.approx((math.log(1 + math.exp(-1.5)) + math.log(1 + math.exp(1.0))) / 2)


def test_bpr_of_equal_scores_is_the_chance_loss_in_every_split() -> None:
    task = Ranking(num_items=3, loss="bpr")
    targets = task.targets(users_batch())
    assert task.chance_loss(targets) == pytest.approx(math.log(2))
    assert float(task.loss(torch.zeros(2, 3), targets)) == pytest.approx(math.log(2))


def test_the_chance_loss_of_softmax_is_that_of_the_popularity() -> None:
    task = Ranking(num_items=3)
    targets = task.targets(users_batch(torch.tensor([[0, 1], [-1, 0]])))
    assert task.chance_loss(targets) == pytest.approx(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))


def test_the_popularity_is_learned_from_users_and_from_pairs_alike() -> None:
    task = Ranking(num_items=4)
    task.fit([task.targets(users_batch())])
    assert task.popularity.tolist() == [1, 1, 1, 0]
    pairs = {"user": torch.tensor([0, 0, 1]), "item": torch.tensor([[0, 3], [2, 3], [1, 3]])}
    task.fit([task.targets((pairs, None))])
    assert task.popularity.tolist() == [1, 1, 1, 0]


def test_metrics_rank_what_is_held_out_and_nothing_of_training() -> None:
    task = Ranking(num_items=3, k=1)
    held_out = {"items": torch.tensor([[1], [0]]), "val": torch.tensor([[], []], dtype=torch.long)}
    values, best = task.metric_inputs(SCORES, task.targets(users_batch(targets=held_out)))
    assert (values[:, 1].tolist(), best.tolist()) == ([1.0, 0.5], [[1], [0]])  # user 1: items 0 and 2 have one score
    assert task.metric_inputs(SCORES, task.targets(users_batch())) == ()
    split = task.new_metric()
    split.append(torch.tensor(1.0), 2, ())
    assert split.scores() == {"loss": 1.0}
    assert split.unmeasured == {*Ranking.METRICS}


@pytest.mark.parametrize(
    ("given", "message"),
    [({"loss": "softmx"}, "task.loss=softmx: give one of softmax, bpr"), ({"k": 0}, "task.k=0: give a whole number")],
)
def test_settings_that_no_ranking_has_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Ranking(num_items=3, **given)


def test_an_item_that_has_no_output_is_named() -> None:
    with pytest.raises(UserError, match=r"item 2 is in train, but task.num_items=2"):
        Ranking(num_items=2).check({"items": HISTORY}, "train")
