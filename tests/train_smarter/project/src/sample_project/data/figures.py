"""Images that have to be downloaded, with an official test split."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from train_smarter import Examples, ImageData, RawDataset, data_dir, fetch


class Figures(ImageData):
    """Grey images of the figures 0 to 9, in one file `figures.npz`.

    Args:
        dir: holds figures.npz, or gets it by a download.
        urls: of figures.npz, tried in this order.
        md5: of that file.
    """

    def __init__(self, *, dir: str, urls: Sequence[str], md5: str, **data: Any) -> None:  # noqa: A002
        super().__init__(**data)
        self.file, self.urls, self.md5 = data_dir(dir) / "figures.npz", urls, md5

    def download(self) -> None:
        if not self.file.is_file():
            fetch(self.urls, self.file, md5=self.md5, hint="data=digits needs no download")

    def read(self) -> RawDataset:
        with np.load(self.file) as content:
            train, test = (
                Examples(torch.from_numpy(content[f"{split}_images"]), torch.from_numpy(content[f"{split}_labels"]))
                for split in ("train", "test")
            )
        return RawDataset([str(figure) for figure in range(10)], train, test=test)
