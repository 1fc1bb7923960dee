"""The data set of your own interactions."""

from typing import Any

from train_smarter.data.interaction_data import InteractionData
from train_smarter.data.interaction_files import pop_files, read_files
from train_smarter.data.interactions import Interactions


class InteractionTable(InteractionData):
    """Interactions in your own files, a row each.

    Args:
        data: those of `InteractionFiles` and of `InteractionData`.
    """

    def __init__(self, **data: Any) -> None:
        self.files = pop_files(data)
        super().__init__(**data)
        self.input_columns = {"user": self.files.user, "item": self.files.item}

    def fingerprint(self) -> Any:
        return self.files.stamp()

    def read_interactions(self) -> Interactions:
        found, notes = read_files(self.files)
        self.notes += notes
        return found
