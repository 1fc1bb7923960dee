"""The items with the best scores for each user, without those that are known of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from train_smarter.data.interactions import UNKNOWN
from train_smarter.errors import UserError
from train_smarter.task.base import Columns

# Why a user gets the same items as everyone, by `note`; 0: the items are the user's own.
REASONS = (
    "",
    "unknown user without known items in a history",
    "unknown user, and the model does not use a history",
    "the model makes no difference between users",
)
TOLERANCE = 1e-5  # of equal scores, which a batch of another size may round otherwise


def top_items(
    network: Callable[[Any], Tensor], inputs: Mapping[str, Tensor], top: int, *, popularity: Tensor | None = None
) -> dict[str, Tensor]:
    """Rank all items for each user.

    The scores of an unknown user without a history tell nothing of anyone: users with the same ones get the popular
    items.

    Args:
        network: {"user": (B,), "history": (B, L)} -> scores (B, I).
        top: k, items of each user.
        popularity: (I,), the scores of the users that the model knows nothing about; None: those of the network.

    Returns:
        item: (B, min(k, I)) int64, the best one first; -1 where the history leaves fewer.
        score: (B, min(k, I)) floats.
        note: (B,) int64, the place of a reason in `REASONS`.
    """
    if not isinstance(inputs, Mapping) or "history" not in inputs:
        raise UserError(
            "items are ranked for users, and not for pairs of a user and an item: give a file without a column item; "
            "the items that a user has had may be in a column history"
        )
    user, history = inputs["user"], inputs["history"]
    scores = network({"user": user, "history": history})
    nothing = network({"user": torch.full_like(user[:1], UNKNOWN), "history": torch.full_like(history[:1], UNKNOWN)})
    scale = nothing.abs().max().clamp(min=1)
    same = ((scores - nothing).abs() <= TOLERANCE * scale).all(1)  # (B,)
    has_history = (history != UNKNOWN).any(1)
    note = torch.where(user != UNKNOWN, 3, torch.where(has_history, 2, 1)) * same
    if popularity is not None:
        scores = torch.where(same[:, None], popularity.to(scores), scores)
    best = mask_items(scores, history).topk(min(top, scores.shape[1]))
    return {"item": best.indices.where(best.values > -torch.inf, UNKNOWN), "score": best.values, "note": note}


def mask_items(scores: Tensor, history: Tensor) -> Tensor:
    """Scores (B, I), -inf of the items of each history (B, L)."""
    known = torch.zeros(len(scores), scores.shape[1] + 1, dtype=torch.bool, device=scores.device)  # + one for padding
    known.scatter_(1, history.where(history != UNKNOWN, scores.shape[1]), True)
    return scores.masked_fill(known[:, :-1], -torch.inf)


def top_columns(prediction: Mapping[str, Tensor], names: Sequence[str], *, otherwise: str) -> Columns:
    """Lists of items, and a note where they are not the user's own.

    Args:
        names: of the items; empty: they have none.
        otherwise: what users get that the model knows nothing about.
    """
    columns: dict[str, list[Any]] = {"item": [], "score": [], "rank": [], "note": []}
    rows = zip(*(prediction[name].tolist() for name in ("item", "score", "note")), strict=True)
    for items, scores, note in rows:
        kept = [item for item in items if item != UNKNOWN]
        columns["item"].append([names[item] if names else item for item in kept])
        columns["score"].append(scores[: len(kept)])
        columns["rank"].append([*range(1, len(kept) + 1)])
        why = f"{otherwise}: {REASONS[note]}" if note else ""
        columns["note"].append(why if kept else "no item is left: the history holds all of them")
    return dict(columns)


def join_items(items: Sequence[str]) -> str:
    """Ids in a cell, as a column history has them: spaces between them, or a JSON list where one has spaces itself."""
    plain = all(item.split() == [item] and item[0] != "[" for item in items)
    return " ".join(items) if plain else json.dumps(list(items), ensure_ascii=False)
