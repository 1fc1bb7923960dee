"""What `train debug=data` shows of interactions: how many there are, of whom, and how unevenly."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from train_smarter.data.interaction_data import InteractionData
from train_smarter.data.interactions import Interactions

Content = dict[str, Any]
QUANTILES = {"min": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "max": 1.0}
MAX_VALUES = 20  # distinct values that are counted one by one


def count_interactions(data: Any) -> Content | None:
    """Counts of the interactions that a split divides, each pair once; None: the data have none.

    Returns:
        users, items, interactions; density: the share of all pairs; same_time: the share of interactions at the time of
        another one of their user, None without times; notes: what the log has of the data; splits: a dict each, with
        the users and items that occur; per: quantiles of the interactions of a user and of an item; values: their
        counts by split, None where there are none or too many.
    """
    if not isinstance(data, InteractionData):
        return None
    found, parts = data.interactions, data.parts
    splits = {"train": parts.train, "val": parts.val, "test": parts.test, "seen": parts.seen}
    splits = {name: rows for name, rows in splits.items() if name != "seen" or len(rows)}
    counts = {"user": (found.users, found.num_users), "item": (found.items, found.num_items)}
    return {
        "users": found.num_users,
        "items": found.num_items,
        "interactions": len(found),
        "density": len(found) / max(1, found.num_users * found.num_items),
        "same_time": _share_of_same_time(found),
        "notes": data.notes,
        "splits": [_count_split(name, found.take(rows)) for name, rows in splits.items()],
        "per": {name: _describe_counts(index.bincount(minlength=size)) for name, (index, size) in counts.items()},
        "values": _count_values(found, splits),
    }


def _count_split(name: str, rows: Interactions) -> Content:
    present = {"users": len(rows.users.unique()), "items": len(rows.items.unique())}
    return {"split": name, "interactions": len(rows), **present}


def _describe_counts(counts: Tensor) -> dict[str, float]:
    ordered = counts.sort().values
    places = {name: float(ordered[round(share * (len(ordered) - 1))]) for name, share in QUANTILES.items()}
    return {**places, "mean": float(counts.double().mean())}


def _share_of_same_time(rows: Interactions) -> float | None:
    if rows.times is None:
        return None
    users, times = rows.users.numpy(), rows.times.numpy()
    order = np.lexsort((times, users))
    same = (np.diff(users[order]) == 0) & (np.diff(times[order]) == 0)  # as the next one
    return float((np.append(same, False) | np.insert(same, 0, False)).mean())


def _count_values(rows: Interactions, splits: dict[str, Tensor]) -> dict[str, dict[str, int]] | None:
    if rows.values is None or len(distinct := rows.values.unique()) > MAX_VALUES:
        return None
    place = torch.searchsorted(distinct, rows.values)
    counts = {name: place[index].bincount(minlength=len(distinct)).tolist() for name, index in splits.items()}
    names = [f"{value:g}" for value in distinct.tolist()]
    return {name: {split: of[number] for split, of in counts.items()} for number, name in enumerate(names)}
