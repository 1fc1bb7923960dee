"""What the report shows of recommenders; expected values are counted by hand."""

from math import log2
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from train_smarter.report.views import render_views
from train_smarter.task.ranks import count_ranks
from train_smarter.task.rating import Rating
from train_smarter.task.recommendation import Recommendation
from train_smarter.task.samples.ranking import RankingSamples

INF = float("inf")
# Two users and five items; item 4 is the most popular one in training.
POPULARITY = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0])
SCORES = torch.tensor([[9.0, 5.0, 4.0, 3.0, 8.0], [1.0, 1.0, 1.0, 0.0, 2.0]])
INPUTS = {"user": torch.tensor([0, 1]), "history": torch.tensor([[-1, 0], [3, 4]])}
TARGETS = {"items": torch.tensor([[1, 3], [2, -1]])}
DATA = SimpleNamespace(
    names=["a", "b", "c", "d", "e"],
    item_titles=["A", "B", "C", "D", "E"],
    user_names=["u0", "u1"],
    parts=SimpleNamespace(leak="training contains the future"),
    split_settings=SimpleNamespace(kind="random"),
)


def make_task() -> Recommendation:
    task = Recommendation(num_items=5, k=2)
    task.popularity.copy_(POPULARITY)
    return task


def test_ranks_count_better_and_tied_items_that_are_not_known() -> None:
    better, tied = count_ranks(SCORES, INPUTS["history"], TARGETS["items"])
    # User 0 without item 0: 8, 5, 4, 3. User 1 without 3 and 4: three equal scores.
    assert better[0].tolist() == [1, 3]
    assert tied[0].tolist() == [1, 1]
    assert (int(better[1, 0]), int(tied[1, 0])) == (0, 3)


def samples_of(*batches: tuple[Any, Any, Tensor]) -> RankingSamples:
    samples, place = make_task().make_samples(16), 0
    for inputs, targets, scores in batches:
        samples.add((inputs, targets), scores, range(place, place + len(scores)))
        place += len(scores)
    return samples


def rows(tree: Any, place: int) -> Any:
    return {name: part[place : place + 1] for name, part in tree.items()}


def views_by_title(samples: RankingSamples, split: str = "test") -> dict[str, Any]:
    return {view["title"]: view for view in samples.content(split, DATA, None)["views"]}


def test_the_curve_is_the_mean_recall_of_the_users_at_each_k() -> None:
    views = views_by_title(samples_of((INPUTS, TARGETS, SCORES)))
    # User 0 finds b at rank 2 and d at rank 4; user 1 has c among three equal ones: 1/3, 2/3, 1.
    expected = [(0 + 1 / 3) / 2, (1 / 2 + 2 / 3) / 2, (1 / 2 + 1) / 2, 1, 1]
    series, _ = views["recall@k"]["series"]
    assert [x for x, _ in series["points"]] == [1, 2, 3, 4, 5]
    assert [y for _, y in series["points"]] == pytest.approx(expected, abs=1e-5)


def test_the_popular_items_are_shown_as_the_baseline() -> None:
    views = views_by_title(samples_of((INPUTS, TARGETS, SCORES)))
    _, popular = views["recall@k"]["series"]
    # User 0 without a gets e, d, c, b, and looks for b and d; user 1 without d and e gets c first, and looks for it.
    assert popular["name"] == "popular items"
    assert [y for _, y in popular["points"]] == pytest.approx([1 / 2, 3 / 4, 3 / 4, 1, 1])
    fact = views["how it was measured"]["items"][3]
    second = 1 / log2(3)
    assert fact["caption"] == "popular items for everyone"
    assert fact["text"] == f"ndcg {(second / (1 + second) + 1) / 2:.4f}, recall 0.7500"


def test_batches_and_processes_add_up_to_the_same_views() -> None:
    whole = samples_of((INPUTS, TARGETS, SCORES))
    parts = [samples_of((rows(INPUTS, place), rows(TARGETS, place), SCORES[place : place + 1])) for place in (0, 1)]
    batches = samples_of(*((rows(INPUTS, place), rows(TARGETS, place), SCORES[place : place + 1]) for place in (0, 1)))
    parts[0].merge([part.groups for part in parts])
    for other in (parts[0], batches):
        for name in ("recall@k", "popularity of the 2 best items of all users"):
            assert views_by_title(other)[name] == views_by_title(whole)[name]


def test_popular_items_have_their_share_of_recommendations_and_training() -> None:
    recommended, train = views_by_title(samples_of((INPUTS, TARGETS, SCORES)))[
        "popularity of the 2 best items of all users"
    ]["series"]
    assert recommended["name"] == "recommended"
    # Tenths of five items: the first five tenths have an item each, e d c b a.
    assert [round(20 * share) for _, share in train["points"]] == [10, 4, 3, 2, 1, 0, 0, 0, 0, 0]
    shares = dict(zip("edcba", (share for _, share in recommended["points"]), strict=False))
    assert shares["e"] == 0.25  # e and b of user 0, two of a, b and c of user 1
    assert shares["d"] == 0


def test_a_user_is_shown_with_history_recommendations_and_hits() -> None:
    view = views_by_title(samples_of((INPUTS, TARGETS, SCORES)))["user u0: 1 of 2 items found"]
    assert view["columns"] == ["recommended", "score", "hit", "to find", "history, the newest first"]
    assert view["rows"] == [["E", 8.0, "", "B", "A"], ["B", 5.0, "yes", "D", ""]]


@pytest.mark.parametrize(("split", "said"), [("test", "that the user has in train and val"), ("val", "in train")])
def test_the_mask_and_the_leak_are_named(split: str, said: str) -> None:
    items = views_by_title(samples_of((INPUTS, TARGETS, SCORES)), split)["how it was measured"]["items"]
    assert items[0] == {"caption": "split: random", "text": "training contains the future"}
    assert items[1]["text"].endswith(said)
    assert items[2] == {"caption": "users", "text": "2 with items to find"}


def test_a_page_draws_the_views() -> None:
    shown = render_views(samples_of((INPUTS, TARGETS, SCORES)).content("test", DATA, None)["views"])
    assert len(shown["plots"]) == 2
    assert "tenth of the items" in shown["plots"][1]["plot"]
    assert [view["kind"] for view in shown["views"]] == ["texts", "table", "table"]


def test_the_largest_error_of_a_rating_has_its_user_and_item() -> None:
    task = Rating()
    task.fit([torch.tensor([[1.0], [5.0]])])
    samples = task.make_samples(1)
    inputs, targets = {"user": torch.tensor([0, 1]), "item": torch.tensor([2, 3])}, torch.tensor([[3.0], [5.0]])
    samples.add((inputs, targets), torch.zeros(2, 1), [0, 1])
    views = {view["title"]: view for view in samples.content("test", DATA, None)["views"]}
    assert views["largest errors"]["columns"] == ["user", "item", "true", "predicted", "predicted - true"]
    assert views["largest errors"]["rows"] == [["u1", "D", 5.0, 3.0, -2.0]]
    assert sorted(views["predicted against true"]["points"]) == [[3.0, 3.0], [5.0, 3.0]]
    assert views["how it was measured"]["items"] == [
        {"caption": "split: random", "text": "training contains the future"}
    ]


def test_a_history_is_shown_with_the_newest_item_first() -> None:
    inputs = {"user": torch.tensor([0]), "history": torch.tensor([[2, 0]])}
    views = views_by_title(samples_of((inputs, {"items": torch.tensor([[1]])}, SCORES[:1])))
    assert [row[-1] for row in views["user u0: 1 of 1 items found"]["rows"]] == ["A", "C"]
