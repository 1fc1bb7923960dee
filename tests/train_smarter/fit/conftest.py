"""A run that is resumed within an epoch, beside one that never stopped."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning import Callback

from sample_project.model.mlp import MLP
from train_smarter.callbacks.resume_checkpoint import ResumeCheckpoint
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.image_data import ImageData
from train_smarter.fit.stock_callbacks import sort_callbacks
from train_smarter.task.classification import Classification

Content = dict[str, Any]


class Random(ImageData):
    """Random 4x4 images of three classes: 40 to train, in 4 steps an epoch."""

    def __init__(self) -> None:
        super().__init__(num_classes=3, shape=[1, 4, 4], batch_size=10)

    def read(self) -> RawDataset:
        return RawDataset(["a", "b", "c"], self.draw(40), self.draw(9), self.draw(9))

    def draw(self, count: int) -> Examples:
        images = torch.randint(0, 256, (count, 1, 4, 4), generator=torch.Generator().manual_seed(count))
        return Examples(images.to(torch.uint8), torch.arange(count) % 3)


class CopyCheckpoint(Callback):
    """Copies last.ckpt as it is within the second epoch, after 6 steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        file = self.folder / "within.ckpt"
        if trainer.global_step == 7 and not file.exists():  # last.ckpt is written before a batch
            shutil.copy(self.folder / "last.ckpt", file)


def fit(
    folder: Path, callbacks: Sequence[Callback], optimizer: Any, *, resume: Path | None = None, **options: Any
) -> Content:
    """The content of last.ckpt after three epochs of four steps."""
    options = {"max_epochs": 3, "accelerator": "cpu", "gradient_clip_val": 1.0, **options}
    lightning.seed_everything(0, verbose=False)
    model = MLP(
        shape=[1, 4, 4],
        task=Classification(num_classes=3),
        widths=[8],
        batch_norm=True,
        dropout=0.5,
        optimizer=optimizer,
    )
    last = ResumeCheckpoint(dirpath=str(folder), every_minutes=1e-9)
    trainer = lightning.Trainer(
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        callbacks=sort_callbacks([*callbacks, last, CopyCheckpoint(folder)]),
        **options,
    )
    trainer.fit(model, datamodule=Random(), ckpt_path=resume, weights_only=True)
    content: Content = torch.load(folder / "last.ckpt", weights_only=True)
    return content


@pytest.fixture
def resumed(tmp_path: Path) -> Callable[..., tuple[Content, Content]]:
    """last.ckpt of a run that never stopped, and of one that was resumed after 6 of its 12 steps."""

    def both(callbacks: Callable[[], Sequence[Callback]], optimizer: Any, **options: Any) -> tuple[Content, Content]:
        whole = fit(tmp_path, callbacks(), optimizer, **options)
        within = tmp_path / "within.ckpt"
        assert torch.load(within, weights_only=True)["global_step"] == 6
        return whole, fit(tmp_path, callbacks(), optimizer, resume=within.rename(tmp_path / "from.ckpt"), **options)

    return both
