"""Generated rows with any number of labels each; they need no network."""

from typing import Any

import torch
from sklearn.datasets import make_multilabel_classification

from train_smarter import Examples, RawDataset, TableData

SEED = 0  # of the data set itself; `seed` and `split_seed` change nothing about it


class MultilabelRows(TableData):
    """Word counts of made documents, each about some of K topics: scikit-learn's generator.

    Args:
        rows: how many examples there are.
        labels: mean number of labels of an example.
    """

    def __init__(self, *, num_classes: int, rows: int = 2000, labels: int = 2, **table: Any) -> None:
        super().__init__(num_classes=num_classes, **table)
        self.rows, self.labels = rows, labels

    def read(self) -> RawDataset:
        inputs, targets = make_multilabel_classification(
            n_samples=self.rows,
            n_features=self.shape[0],
            n_classes=self.num_classes,
            n_labels=self.labels,
            random_state=SEED,
        )
        names = [f"topic{number}" for number in range(targets.shape[1])]
        return RawDataset(names, Examples(torch.from_numpy(inputs), torch.from_numpy(targets).to(torch.uint8)))
