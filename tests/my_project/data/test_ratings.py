import numpy as np
import pytest

from my_project.data.ratings import Ratings
from train_smarter import Interactions


def made(**settings: float) -> Interactions:
    return Ratings(**settings).read_interactions()  # type: ignore[arg-type]


def values(data: Interactions) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    assert data.values is not None
    return data.values.numpy()


def test_pairs_come_once_and_are_as_many_as_asked_for() -> None:
    data = made(num_users=200, num_items=100, per_user=30)
    assert len(data.deduplicate()) == len(data)
    assert len(data) / 200 == pytest.approx(30, abs=1)
    assert (data.num_users, data.num_items) == (200, 100)


def test_the_noise_is_all_that_changes_with_it_and_has_the_given_deviation() -> None:
    quiet, loud = made(num_users=300, num_items=100, noise=0.0), made(num_users=300, num_items=100, noise=0.3)
    assert quiet.items.equal(loud.items)
    difference = values(loud) - values(quiet)
    assert difference.std() == pytest.approx(0.3, rel=0.02)
    assert abs(difference.mean()) < 0.01


def test_items_that_users_like_and_popular_ones_are_rated_more_often() -> None:
    data = made(num_users=300, num_items=100, per_user=20, noise=0.0)
    counts = np.sort(data.items.bincount(minlength=100).numpy())
    assert counts[-10:].sum() > 3 * counts[:10].sum()
    assert values(data).mean() > 3.2  # 3 is the mean of all ratings, those that nobody gave included


def test_a_user_rates_every_item_at_most() -> None:
    assert len(made(num_users=5, num_items=4, per_user=60)) == 20
