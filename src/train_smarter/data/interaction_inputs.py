"""A user's own input of interactions: users, whose items are to be ranked, or pairs of a user and an item."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train_smarter.data.examples import RawInput
from train_smarter.data.interaction_files import USUAL_NAMES, usual_column
from train_smarter.data.interactions import UNKNOWN, Interactions
from train_smarter.data.table_file import StringTable, kind_of, read_table, shorten
from train_smarter.errors import UserError
from train_smarter.sanitize import escape_controls

HISTORY = ("history", "items", "itemids", "seen")  # usual names of the column, as in `USUAL_NAMES`


@dataclass(frozen=True)
class InputRow:
    """A row of the input; `number` counts from 1, without the header.

    user: an id; empty: none is given.
    item: an id; None: all items are to be ranked.
    history: ids of items as a text, see `split_history`; None: what the data know of the user. An empty list is [].
    """

    number: int
    user: str
    item: str | None = None
    history: str | None = None

    def __str__(self) -> str:
        return f"row {self.number}"


@dataclass(frozen=True)
class UserHistory:
    """Index of a user, and of the items that are known of it, the oldest first; no dict, since a batch pads them."""

    user: int
    items: Tensor


class InteractionReader:
    """Converts a user's own input, for a model of these users and items.

    Attributes:
        histories: the items that the data know of each user; None: they are not read.
    """

    def __init__(self, users: Sequence[str], items: Sequence[str], titles: Sequence[str] | None) -> None:
        self.users = {name: index for index, name in enumerate(users)}
        self.items = {name: index for index, name in enumerate(items)}
        self.titles = None if titles is None else dict(zip(items, titles, strict=True))
        self.histories: Histories | None = None

    def rows(self, given: str, columns: Mapping[str, str | None]) -> list[InputRow]:
        """The rows of a file with a column of users, and one of items or of histories, or neither; or one known user.

        Args:
            given: what follows `input=`.
            columns: names that the data's config has for the columns "user" and "item", where it has some.

        Raises:
            UserError: there is no such file, or it has no column of users or histories.
        """
        path = Path(given).expanduser()
        if not path.exists() and given in self.users:
            return [InputRow(1, given)]
        if not path.exists() and not kind_of(path):
            raise UserError(
                f"input={given}: there is no such file, and no user with this id in training; give a file, CSV, TSV, "
                "JSONL or Parquet, with a column user"
            )
        return _read_rows(read_table(given, key="input", keep_lists=True), columns)

    def needs_history(self, row: InputRow) -> bool:
        """Whether the items that the user has had are in the data alone."""
        return row.item is None and row.history is None and row.user in self.users

    def load(self, row: InputRow) -> RawInput:
        """The indices of a row.

        Raises:
            ValueError: a cell is empty, or no history.
        """
        if not row.user and not row.history:
            raise ValueError("it has no user" if row.item is not None else "it has neither user nor history")
        user = self.users.get(row.user, UNKNOWN)
        conversions = ["with an unknown user"] if row.user and user == UNKNOWN else []
        named: dict[str, Any] = {"row": row.number, "user": row.user}
        if row.item is not None:
            return self._load_pair(row.item, user, named, conversions)
        if row.history is None:
            known = self.histories[user] if user != UNKNOWN and self.histories else torch.zeros(0, dtype=torch.long)
            return RawInput(named, UserHistory(user, known), conversions)
        found = [self.items.get(item, UNKNOWN) for item in split_history(row.history, self.items)]
        conversions += ["with unknown items in the history"] if UNKNOWN in found else []
        items = torch.tensor([item for item in found if item != UNKNOWN], dtype=torch.long)
        return RawInput(named, UserHistory(user, items), conversions)

    def _load_pair(self, name: str, user: int, named: dict[str, Any], conversions: list[str]) -> RawInput:
        if not name:
            raise ValueError("it has no item")
        item = self.items.get(name, UNKNOWN)
        titles = {} if self.titles is None else {"title": find_title(self.titles, name)}
        pair = {"user": torch.tensor(user), "item": torch.tensor(item)}
        return RawInput(
            {**named, "item": name, **titles}, pair, [*conversions, *(["with an unknown item"] * (item == UNKNOWN))]
        )


def _read_rows(table: StringTable, columns: Mapping[str, str | None]) -> list[InputRow]:
    usual = {**USUAL_NAMES, "history": HISTORY}
    names = {role: _find_column(table, columns.get(role), usual[role]) for role in ("user", "item", "history")}
    if not names["user"] and not names["history"]:
        raise UserError(
            f"{table.where}: no column is called user; name one so, and items that a user has had history, 'a b c'; "
            f"it has {shorten(table.known)}"
        )
    if names["item"] and names["history"]:
        raise UserError(
            f"{table.where} has the columns {names['item']!r} and {names['history']!r}: give items to rate them, or "
            "histories to rank all items"
        )
    cells = [table.texts(name) if name else [None] * len(table) for name in names.values()]
    return [
        InputRow(number, user or "", (item or "") if names["item"] else None, history)
        for number, (user, item, history) in enumerate(zip(*cells, strict=True), start=1)
    ]


def _find_column(table: StringTable, given: str | None, usual: Sequence[str]) -> str | None:
    if given in table.names:
        return given
    if nested := usual_column([*table.columns.unusable], usual):
        raise UserError(f"{table.where}: the column {nested!r} holds lists; write the ids with spaces between them")
    return usual_column(table.names, usual)


def find_title(titles: Mapping[str, str], item: Any) -> Any:
    """The title of an id, or of each id of a list; empty for an unknown one. A terminal may read it."""
    return (
        [find_title(titles, one) for one in item] if isinstance(item, list) else escape_controls(titles.get(item, ""))
    )


def split_history(text: str, known: Mapping[str, int]) -> list[str]:
    """Ids of items, separated by spaces or as a JSON list; or one id with spaces in it.

    Args:
        known: index of each id.

    Raises:
        ValueError: it begins like a JSON list, and is none.
    """
    if text in known:
        return [text]
    if not text.lstrip().startswith("["):
        return text.split()
    try:
        return [str(item) for item in json.loads(text, parse_int=str, parse_float=str)]  # as they are spelled
    except ValueError as error:
        raise ValueError(f"history {text[:40]!r} is no JSON list: {error}") from None


class Histories:
    """The items of each user, in order of time; of one time, or without times, in that of the file."""

    def __init__(self, data: Interactions) -> None:
        users = data.users.numpy()
        keys = (users,) if data.times is None else (data.times.numpy(), users)
        self._items = data.items[torch.from_numpy(np.lexsort(keys))]
        self._ends = torch.from_numpy(np.bincount(users, minlength=data.num_users)).cumsum(0)

    def __getitem__(self, user: int) -> Tensor:
        """Items (L,)."""
        return self._items[int(self._ends[user - 1]) if user else 0 : int(self._ends[user])]


def pad_histories(histories: Sequence[Tensor]) -> Tensor:
    """Items of B users -> (B, L), `UNKNOWN` on the left of a shorter history; L is at least 1."""
    padded = torch.full((len(histories), max(1, *map(len, histories))), UNKNOWN, dtype=torch.long)
    for row, items in zip(padded, histories, strict=True):
        row[len(row) - len(items) :] = items
    return padded
