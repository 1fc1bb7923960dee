"""What a recommender recommends: recall over k, the popularity of the items, and a few users."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from train_smarter.data.interactions import UNKNOWN
from train_smarter.task.ranks import count_ranks
from train_smarter.task.samples.base import Kept, Samples, spread
from train_smarter.task.samples.measured import measured_view
from train_smarter.task.samples.views import View, lines, table
from train_smarter.task.top_items import mask_items

MAX_K = 50  # of the curve
USERS = 3
SHOWN = 10  # items of a user, at most
SHARES = 10  # parts of the items by popularity

MASK = {
    "train": "nothing is left out of the ranking",
    "val": "all items are ranked, without those that the user has in train",
    "test": "all items are ranked, without those that the user has in train and val",
}


class RankingSamples(Samples):
    """Sums over all users for the curves, and a random choice of users.

    Content of "sums", one of each process: recall (K,), the sum over users at k = 1, 2, ...; users (); recommended
    (I,), how often each item is among the best `task.k`. Content of "users": user (), history (L,), items (M,) to
    find, and the best ones with their scores (k,).
    """

    split = "test"

    def content(self, split: str, data: Any, network: Any) -> Any:
        self.split = split
        return super().content(split, data, network)

    def add(self, batch: Any, outputs: Any, indices: Sequence[int]) -> None:
        inputs, targets = batch
        history, wanted, scores = inputs["history"], targets["items"], outputs.float()
        top = mask_items(scores, history).topk(min(self.task.k, scores.shape[1]))
        best = top.indices.where(top.values > -torch.inf, UNKNOWN)
        self._add_sums(scores, history, wanted, best, index=indices[0])
        content = {"user": inputs["user"], "history": history, "items": wanted, "best": best, "score": top.values}
        self.keep("users", spread(indices), content, indices, count=min(USERS, self.count))

    def _add_sums(self, scores: Tensor, history: Tensor, wanted: Tensor, best: Tensor, *, index: int) -> None:
        better, tied = count_ranks(scores, history, wanted)  # (B, M)
        known = wanted != UNKNOWN
        share = 1 / known.sum(1).clamp(min=1)  # (B,)
        recall = [
            ((((k - better) / tied).clamp(0, 1) * known).sum(1) * share).sum()
            for k in range(1, min(MAX_K, scores.shape[1]) + 1)
        ]
        recommended = best[best != UNKNOWN].bincount(minlength=scores.shape[1])
        found = {"recall": torch.stack(recall), "users": known.any(1).sum(), "recommended": recommended}
        found = {name: part.double().cpu() for name, part in found.items()}
        sums = self.groups.get("sums")
        if sums:
            found = {name: part + sums[0].content[name] for name, part in found.items()}
            index = sums[0].index
        self.groups["sums"] = [Kept(0.0, index, found)]

    def views(self, data: Any, network: Any) -> list[View]:  # noqa: ARG002
        if not self.groups.get("sums"):
            return []
        shares = [kept.content for kept in self.groups["sums"]]
        sums = {name: torch.stack([share[name] for share in shares]).sum(0) for name in shares[0]}
        views = [
            measured_view(
                data, {"ranking": MASK.get(self.split, ""), "users": f"{int(sums['users']):,} with items to find"}
            ),
            _recall_curve(sums["recall"] / sums["users"].clamp(min=1)),
            _popularity(self.task.popularity.cpu(), sums["recommended"], self.task.k),
        ]
        return [*views, *(_show_user(kept.content, data) for kept in self.groups.get("users", []))]


def _recall_curve(recall: Tensor) -> View:
    points = [(float(k), value) for k, value in enumerate(recall.tolist(), start=1)]
    return lines("recall@k", {"recall": points}, x="k, items of a user", y="share of the items to find")


def _popularity(popularity: Tensor, recommended: Tensor, k: int) -> View:
    """The share of each tenth of the items, the most popular one first."""
    tenths = popularity.argsort(descending=True, stable=True).tensor_split(SHARES)
    series = {}
    for name, counts in (("recommended", recommended), ("train", popularity)):
        total = float(counts.sum()) or 1.0
        series[name] = [(float(place), float(counts[part].sum()) / total) for place, part in enumerate(tenths, start=1)]
    title = f"popularity of the {k} best items of all users"
    return lines(title, series, x="tenth of the items by interactions in train", y="share")


def _show_user(content: Any, data: Any) -> View:
    """The best items of a user beside those to find and the newest of the history."""
    names = [str(name) for name in getattr(data, "item_titles", None) or data.names]
    history, wanted, best = (content[name][content[name] != UNKNOWN].tolist() for name in ("history", "items", "best"))
    hits = [item in wanted for item in best]
    columns = [
        [names[item] for item in best],
        content["score"].tolist(),
        ["yes" if hit else "" for hit in hits],
        [names[item] for item in wanted],
        [names[item] for item in reversed(history)],
    ]
    count = min(SHOWN, max(len(best), len(wanted)))
    rows = [[column[row] if row < len(column) else "" for column in columns] for row in range(count)]
    title = f"user {data.user_names[int(content['user'])]}: {sum(hits)} of {len(wanted)} items found"
    return table(title, ["recommended", "score", "hit", "to find", "history, the newest first"], rows)
