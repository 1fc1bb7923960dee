"""Examples of the task `ranking`."""

from train_smarter.data.examples import Examples, SplitName
from train_smarter.data.interaction_splits import InteractionSplit
from train_smarter.data.interactions import Interactions


def ranking_examples(data: Interactions, parts: InteractionSplit, *, rows: str) -> dict[SplitName, Examples]:
    """Make the examples of each split; `rows`: pairs or users."""
    raise NotImplementedError
