"""A generated regression with several targets at once, whose best possible R2 is known."""

from typing import Any

import torch
from sklearn.datasets import make_regression

from train_smarter import Examples, RawDataset, TableData

SEED = 0  # of the data set itself; `seed` and `split_seed` change nothing about it


class MadeRegression(TableData):
    """Targets that are a linear function of 5 of the columns, plus normal noise.

    Args:
        rows: how many examples there are.
        noise: standard deviation of the noise; that of the targets without it is about 100.
    """

    def __init__(self, *, num_targets: int, rows: int = 1000, noise: float = 20.0, **table: Any) -> None:
        super().__init__(num_targets=num_targets, **table)
        self.rows, self.noise = rows, noise

    def read(self) -> RawDataset:
        inputs, targets = make_regression(
            n_samples=self.rows,
            n_features=self.shape[0],
            n_informative=5,
            n_targets=self.num_targets,
            noise=self.noise,
            random_state=SEED,
        )
        targets = torch.from_numpy(targets).float().view(self.rows, -1)  # (N, D)
        names = [f"y{number}" for number in range(targets.shape[1])]
        return RawDataset(names, Examples(torch.from_numpy(inputs), targets))
