"""A small regression that needs no network: it comes with scikit-learn."""

import torch
from sklearn.datasets import load_diabetes

from train_smarter import Examples, RawDataset, TableData


class Diabetes(TableData):
    """442 patients: age, sex, body mass index, blood pressure, six blood values -> progression after a year, 25 to 346.

    Source: Efron, Hastie, Johnstone and Tibshirani, Least Angle Regression, 2004.
    There is no official split: test and validation are cut at random.
    """

    def read(self) -> RawDataset:
        table = load_diabetes(scaled=False)
        self.columns = list(table.feature_names)
        rows, targets = torch.from_numpy(table.data), torch.from_numpy(table.target).float()
        return RawDataset(["progression"], Examples(rows, targets[:, None]))
