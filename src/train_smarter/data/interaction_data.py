"""What data sets of interactions share: users, items, the split of the rows, and their examples."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from train_smarter.data.base import Data, stack
from train_smarter.data.examples import Batch, Examples, RawDataset, RawInput, SplitName
from train_smarter.data.interaction_inputs import (
    Histories,
    InputRow,
    InteractionReader,
    UserHistory,
    find_title,
    pad_histories,
)
from train_smarter.data.interaction_splits import InteractionSplit, SplitSettings, split_interactions
from train_smarter.data.interactions import Interactions
from train_smarter.data.loader import Loader
from train_smarter.data.ranking_rows import ranking_examples, train_users
from train_smarter.errors import UserError, did_you_mean

log = logging.getLogger(__name__)

ROWS = ("ratings", "pairs", "users")
LARGE = 500_000  # training rows from which a step's fixed cost is worth a larger batch; of a million interactions
BATCH, LARGE_BATCH, USER_BATCH = 1024, 8192, 128


class InteractionData(Data):
    """Interactions of users with items, each pair once. Subclasses implement `read_interactions`.

    Examples are ratings: inputs {"user": (B,), "item": (B,)}, int64 indices, targets (B, 1), floats; or rankings of all
    items, see `ranking_examples`. An index is -1 for a user or an item that is unknown.

    Args:
        num_users, num_items: U and I, compared with the data in `setup`; None: they are not.
        rows: what a training example is: ratings; of rankings, pairs of user and item, or users with all their items.
        split, target_fraction: see `SplitSettings`, as val_fraction, test_fraction, folds and fold.
        min_value: interactions of a smaller value are left out, after users and items have been counted.
        batch_size: None: 128 users; or 1,024 rows, and 8,192 from 500,000 on.

    Attributes:
        interactions, parts: from `setup` on, without duplicates.
        user_names, names, item_titles: ids of users and items, and titles, by index; from `setup` or `load_preprocess`
            on.
    """

    kind = "interactions"
    input_columns: Mapping[str, str | None] = MappingProxyType({})  # names of "user" and "item" in a user's own input

    def __init__(
        self,
        *,
        num_users: int | None = None,
        num_items: int | None = None,
        rows: str = "ratings",
        split: str = "random",
        target_fraction: float = 0.2,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        min_value: float | None = None,
        batch_size: int | None = None,
        **data: Any,
    ) -> None:
        super().__init__(batch_size=batch_size or 0, val_fraction=val_fraction, test_fraction=test_fraction, **data)
        if rows not in ROWS:
            raise UserError(f"data.rows={rows}: give one of {', '.join(ROWS)}{did_you_mean(str(rows), ROWS)}")
        self.num_users, self.num_items, self.rows, self.min_value = num_users, num_items, rows, min_value
        self.split_settings = SplitSettings(
            kind=split,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            target_fraction=target_fraction,
            folds=self.folds,
            fold=self.fold,
            seed=self.split_seed,
        )
        self.user_names: list[str] = []
        self.item_titles: list[str] | None = None
        self.interactions: Interactions
        self.parts: InteractionSplit
        self.notes: list[str] = []

    def read_interactions(self) -> Interactions:
        """All interactions, in a fixed order; a pair may occur several times."""
        raise NotImplementedError

    def train_counts(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Training rows of each user (U,) and of each item (I,), int64; after `setup`."""
        data, rows = self.interactions, self.parts.train
        users = data.users[rows].bincount(minlength=data.num_users)
        return users, data.items[rows].bincount(minlength=data.num_items)

    @property
    def item_names(self) -> list[str]:
        """`names`: a network has an output for each item."""
        return self.names

    # ---- batches

    def loader(self, name: SplitName, *, training: bool = False) -> Loader:
        """Batches of a split; a model that trains on pairs is measured on the users of training."""
        if training or name != "train" or self.rows != "pairs":
            return super().loader(name, training=training)
        pairs = self.examples["train"]
        self.examples["train"] = train_users(self.interactions, self.parts.train)
        try:
            return super().loader(name)
        finally:
            self.examples["train"] = pairs

    def fits_on(self, device: torch.device) -> bool:
        """Lists of items stay on the CPU: padded to the longest of all, they would be a matrix of users and items."""
        return self.rows == "ratings" and super().fits_on(device)

    # ---- what a run records

    def preprocess(self) -> dict[str, Any]:
        return {**super().preprocess(), "users": self.user_names, "titles": self.item_titles}

    def load_preprocess(self, preprocess: dict[str, Any]) -> None:
        super().load_preprocess(preprocess)
        self.user_names, titles = [str(name) for name in preprocess["users"]], preprocess["titles"]
        if titles is not None and len(titles) != len(self.names):
            raise ValueError(f"{len(titles)} titles of {len(self.names)} items")
        self.item_titles = None if titles is None else [str(title) for title in titles]

    def adopt_inputs(self, preprocess: dict[str, Any]) -> None:
        """An embedding is that of one user or item: a checkpoint of others would be mistaken for these."""
        self._compare("items", preprocess["names"], self.names)
        self._compare("users", preprocess["users"], self.user_names)

    def set_names(self, names: Sequence[str]) -> None:
        self._compare("items", self.names, names)
        self.names = list(names)

    def _compare(self, noun: str, known: Sequence[str], read: Sequence[str]) -> None:
        """Raise a UserError if the users or items that were read are not those of the run, in their order."""
        if known and read and list(known) != list(read):
            raise UserError(
                f"{type(self).__name__} has {len(read):,} {noun}, and not the {len(known):,} of the run, in order: "
                "the data have changed; train again"
            )

    # ---- reading

    def read(self) -> RawDataset:
        found = self.read_interactions()
        self._set_index(found)
        unique = found.deduplicate()
        if repeated := len(found) - len(unique):
            self.notes.append(f"{repeated:,} repeated pairs of user and item: the latest of each stays")
        if self.min_value is not None:
            unique = self._above(unique, self.min_value)
        parts = split_interactions(unique, self.split_settings)
        self.notes += parts.notes
        if self.refit:
            parts = replace(parts, train=torch.cat([parts.train, parts.val]).sort().values)
        self.interactions, self.parts = unique, parts
        ratings = self.rows == "ratings"
        splits = self._ratings() if ratings else ranking_examples(unique, self.parts, rows=self.rows)
        return RawDataset(found.item_names, splits["train"], val=splits["val"], test=splits["test"])

    def split(self, source: RawDataset) -> dict[SplitName, Examples]:
        """Already split."""
        assert source.val is not None
        assert source.test is not None
        return {"train": source.train, "val": source.val, "test": source.test}

    def _ratings(self) -> dict[SplitName, Examples]:
        if self.interactions.values is None:
            raise UserError("ratings are needed, but the interactions have no values: type data.value=<column>")
        parts: dict[SplitName, torch.Tensor] = {
            "train": self.parts.train,
            "val": self.parts.val,
            "test": self.parts.test,
        }
        examples = {}
        for name, rows in parts.items():
            of = self.interactions.take(rows)
            assert of.values is not None
            examples[name] = Examples({"user": of.users, "item": of.items}, of.values[:, None])
        return examples

    def _above(self, data: Interactions, least: float) -> Interactions:
        if data.values is None:
            raise UserError(f"data.min_value={least}, but the interactions have no values: type data.value=<column>")
        rows = torch.nonzero(data.values >= least)[:, 0]
        if not len(rows):
            raise UserError(f"data.min_value={least} leaves no interaction: the largest value is {data.values.max():g}")
        self.notes.append(f"{len(data) - len(rows):,} interactions below data.min_value={least} are left out")
        return data.take(rows)

    def _set_index(self, found: Interactions) -> None:
        """The users and items that were read, which have to be those of the run that is gone back to."""
        for key, expected, read in (
            ("num_users", self.num_users, found.num_users),
            ("num_items", self.num_items, found.num_items),
        ):
            if expected not in (None, read):
                raise UserError(f"data.{key}={expected}, but {type(self).__name__} has {read}")
        self._compare("users", self.user_names, found.user_names)
        self.user_names = list(found.user_names)
        self.item_titles = None if found.item_titles is None else list(found.item_titles)

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        if not self.batch_size:  # not in `read`, which another job of this process may have done
            rows = len(self.examples["train"])
            self.batch_size = USER_BATCH if self.rows == "users" else LARGE_BATCH if rows >= LARGE else BATCH
            log.info("data.batch_size=%d for %d training examples", self.batch_size, rows)

    # ---- what `predict` reads and writes

    def iter_inputs(self, given: str) -> Iterator[InputRow]:
        """Rows of a file with users, and items to rate, or histories; or the id of a known user.

        Raises:
            UserError: there is no such file, or it has no column of users; or the data with the items of its users
                cannot be read.
        """
        self._reader = InteractionReader(self.user_names, self.names, self.item_titles)
        rows = self._reader.rows(given, self.input_columns)
        if any(self._reader.needs_history(row) for row in rows):
            try:
                self.prepare_data()
                self.setup()
            except UserError as error:
                hint = "The items that a user has had are read from the data; or give them in a column history"
                raise UserError(f"{error}\n{hint}") from error
            self._reader.histories = Histories(self.interactions)
        return iter(rows)

    def load_input(self, source: InputRow) -> RawInput:
        return self._reader.load(source)

    def collate(self, contents: Sequence[Any]) -> Batch:
        if not isinstance(contents[0], UserHistory):
            return stack(contents), None
        users = torch.tensor([one.user for one in contents])
        return {"user": users, "history": pad_histories([one.items for one in contents])}, None

    def id_columns(self, inputs: Any) -> dict[str, Sequence[Any]]:
        users = [self.user_names[user] for user in inputs["user"].tolist()]
        if "item" not in inputs or inputs["item"].ndim > 1:  # of a ranking
            return {"user": users}
        return {"user": users, **self.add_columns({"item": [self.names[item] for item in inputs["item"].tolist()]})}

    def add_columns(self, columns: dict[str, Any]) -> dict[str, Any]:
        """The title of each item behind the column "item": of ids, or of lists of ids."""
        if self.item_titles is None or "item" not in columns:
            return columns
        titles = dict(zip(self.names, self.item_titles, strict=True))
        entries = []
        for name, values in columns.items():
            entries.append((name, values))
            if name == "item":
                entries.append(("title", [find_title(titles, item) for item in values]))
        return dict(entries)

    def log_summary(self) -> None:
        super().log_summary()
        for note in self.notes:
            log.info("%s", note)
