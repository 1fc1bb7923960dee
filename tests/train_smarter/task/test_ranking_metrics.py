"""Metrics of rankings, against scikit-learn, and against all orders of equal scores."""

import math
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score
from torch import Tensor

from train_smarter.task.ranking_metrics import OF_TRAIN_MASK, OF_USERS, RankingMetrics, measure_users

ALL = (*OF_USERS, *OF_TRAIN_MASK, "coverage", "popular_share")
Lists = list[list[int]]


def pad(lists: Lists) -> Tensor:
    """(B, L), -1 on the left."""
    longest = max(map(len, lists))
    rows = [[-1] * (longest - len(items)) + items for items in lists]
    return torch.tensor(rows, dtype=torch.long).view(len(lists), longest)


def targets(items: Lists, known: Lists, val: Lists | None = None) -> dict[str, Tensor]:
    return {"items": pad(items), "known": pad(known), "val": pad(val or [[] for _ in items])}


def by_all_orders(scores: list[float], known: list[int], items: list[int], k: int) -> list[float]:
    """nDCG, recall, hit rate and MRR, as their mean over the orders of items with the same score."""
    levels = sorted({score for item, score in enumerate(scores) if item not in known}, reverse=True)
    groups = [[item for item, score in enumerate(scores) if score == level and item not in known] for level in levels]
    found = []
    for parts in product(*(list(permutations(group)) for group in groups)):
        hits = [item in items for item in [item for part in parts for item in part][:k]]
        gain = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits))
        best = sum(1 / math.log2(place + 2) for place in range(min(k, len(items))))
        first = next((1 / (place + 1) for place, hit in enumerate(hits) if hit), 0.0)
        found.append([gain / best, sum(hits) / len(items), float(any(hits)), first])
    means: list[float] = np.mean(found, 0).tolist()
    return means


def metrics(num_items: int, popular: list[int] | None = None) -> RankingMetrics:
    return RankingMetrics(ALL, num_items=num_items, popular=torch.tensor(popular or [0]))


def random_case(users: int = 60, num_items: int = 50) -> tuple[Tensor, dict[str, Tensor]]:
    draw = np.random.default_rng(0)
    orders = [draw.permutation(num_items).tolist() for _ in range(users)]
    found = targets([order[: 1 + user % 7] for user, order in enumerate(orders)], [order[10:15] for order in orders])
    return torch.from_numpy(draw.normal(size=(users, num_items)).astype(np.float32)), found


@pytest.mark.parametrize("k", [1, 5, 10, 100])
def test_ndcg_is_that_of_scikit_learn(k: int) -> None:
    scores, found = random_case()
    expected = []
    for user in range(len(scores)):
        candidates = np.setdiff1d(np.arange(50), found["known"][user].numpy())
        true = np.isin(candidates, found["items"][user].numpy()).astype(float)
        expected.append(ndcg_score(true[None], scores[user, candidates].numpy()[None], k=k))
    assert measure_users(scores, found, k=k)[0][:, 0].numpy() == pytest.approx(np.array(expected), abs=1e-6)


def test_metrics_are_the_mean_over_the_orders_of_equal_scores() -> None:
    draw = np.random.default_rng(0)
    for _ in range(100):
        order, k = draw.permutation(6).tolist(), int(draw.integers(1, 8))
        items, known = order[: draw.integers(1, 4)], order[4 : draw.integers(4, 7)]
        val, scores = known[:1], draw.integers(0, 3, 6).astype(float).tolist()
        # A second user with more items: the first one is padded.
        found = targets([items, order[:4]], [known, known], [val, val])
        values, _ = measure_users(torch.tensor([scores, scores]), found, k=k)
        by_train = by_all_orders(scores, known[1:], items, k)[:2]
        assert values[0].tolist() == pytest.approx([*by_all_orders(scores, known, items, k), *by_train], abs=1e-5)


def test_constant_scores_find_what_chance_finds() -> None:
    found = targets([[0, 1], [18, 19]], [[5] * 10, [5]])  # 19 items are ranked
    values, _ = measure_users(torch.zeros(2, 20), found, k=10)
    gain = sum(1 / math.log2(place + 2) for place in range(10))
    hit = 1 - math.comb(17, 10) / math.comb(19, 10)
    for row in values:
        assert row[:3].tolist() == pytest.approx([gain * 2 / 19 / (1 + 1 / math.log2(3)), 10 / 19, hit], abs=1e-6)


def test_items_of_validation_are_ranked_where_training_alone_is_left_out() -> None:
    scores = torch.tensor([[5.0, 4.0, 3.0, 2.0]])
    values, best = measure_users(scores, targets([[2]], [[0, 1]], [[0]]), k=2)
    assert values[0].tolist() == pytest.approx([1.0, 1.0, 1.0, 1.0, 1 / math.log2(3), 1.0])
    assert best.tolist() == [[2, 3]]


def test_fewer_items_than_k_are_no_items_that_are_known() -> None:
    _, best = measure_users(torch.tensor([[5.0, 4.0, 3.0]]), targets([[2]], [[0, 1]]), k=3)
    assert best.tolist() == [[2, -1, -1]]


def test_a_nan_score_is_no_rank() -> None:
    counted = metrics(3)
    counted.update(
        *measure_users(torch.tensor([[math.nan, 1.0, 0.0], [0.0, 1.0, 2.0]]), targets([[1]] * 2, [[]] * 2), k=2)
    )
    assert math.isnan(counted.compute()["ndcg"] or 0)


def test_coverage_and_share_of_popular_items_are_those_of_all_recommendations() -> None:
    counted = metrics(5, popular=[0])
    counted.update(*measure_users(torch.tensor([[3.0, 2.0, 1.0, 0.0, 0.0]] * 2), targets([[4]] * 2, [[], [0]]), k=2))
    scores = counted.compute()  # items 0 and 1, and 1 and 2
    assert (scores["coverage"], scores["popular_share"]) == (3 / 5, 1 / 4)
    assert counted.details() == {"users": 2}


def counted_in_batches(size: int) -> RankingMetrics:
    scores, found = random_case()
    counted = metrics(scores.shape[1])
    for start in range(0, len(scores), size):
        part = {name: rows[start : start + size] for name, rows in found.items()}
        counted.update(*measure_users(scores[start : start + size], part, k=10))
    return counted


def test_the_size_of_a_batch_changes_nothing() -> None:
    expected = counted_in_batches(60).compute()
    for size in (1, 7, 59):
        assert counted_in_batches(size).compute() == pytest.approx(expected, abs=1e-6)


def test_states_of_two_processes_sum_to_those_of_one() -> None:
    scores, found = random_case()
    halves: list[Any] = [metrics(50), metrics(50)]
    for start, half in enumerate(halves):
        part = {name: rows[start::2] for name, rows in found.items()}
        half.update(*measure_users(scores[start::2], part, k=10))
    both = metrics(50)
    both.update()
    for state, reduce in both._reductions.items():
        assert callable(reduce)
        setattr(both, state, reduce(torch.stack([getattr(half, state) for half in halves])))
    assert both.compute() == pytest.approx(counted_in_batches(60).compute(), abs=1e-6)


def test_a_split_without_users_to_rank_for_has_no_metrics() -> None:
    counted = metrics(5)
    counted.update()
    assert counted.compute() == dict.fromkeys(ALL)
