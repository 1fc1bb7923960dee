from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins import MixedPrecision
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from train_smarter.callbacks.gradient_norm import GradientNorm

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*can be a significant slow")


class Plane(LightningModule):
    """Its loss is x * (3 a + 4 b): at x = 1 the gradient is (3, 4), of norm 5. `still` is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.still = nn.Parameter(torch.zeros(()), requires_grad=False)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:  # noqa: ARG002
        return batch.mean() * (3 * self.a + 4 * self.b)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.a, self.b], lr=0.1)


def norms(folder: Path, inputs: list[float], **options: Any) -> list[tuple[int, float]]:
    """(step, value) as TensorBoard has them, after an epoch over batches of one input each."""
    defaults: dict[str, Any] = {"logger": TensorBoardLogger(folder, name="", version=""), "log_every_n_steps": 1}
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[GradientNorm()],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **defaults | options,
    )
    trainer.fit(Plane(), DataLoader(torch.tensor(inputs)))  # type: ignore[arg-type]
    events = EventAccumulator(str(folder)).Reload()
    if "train/grad_norm" not in events.Tags()["scalars"]:
        return []
    return [(event.step, event.value) for event in events.Scalars("train/grad_norm")]


def test_the_norm_is_that_of_all_gradients_before_clipping(tmp_path: Path) -> None:
    assert norms(tmp_path, [1.0, 2.0], gradient_clip_val=0.5) == [(0, 5.0), (1, 10.0)]


def test_it_is_logged_every_so_many_steps(tmp_path: Path) -> None:
    assert norms(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0], log_every_n_steps=2) == [(1, 10.0), (3, 20.0)]


def test_accumulated_batches_count_as_one_step_of_their_mean_gradient(tmp_path: Path) -> None:
    # (1 + 3) / 2 * 5 = 10 and (2 + 4) / 2 * 5 = 15
    assert norms(tmp_path, [1.0, 3.0, 2.0, 4.0], accumulate_grad_batches=2) == [(0, 10.0), (1, 15.0)]


def test_the_loss_scaling_of_mixed_precision_is_taken_out(tmp_path: Path) -> None:
    scaled = MixedPrecision("16-mixed", device="cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    assert norms(tmp_path, [1.0, 2.0], plugins=[scaled]) == [(0, 5.0), (1, 10.0)]


def test_other_loggers_get_it_too(tmp_path: Path) -> None:
    norms(tmp_path, [1.0], logger=CSVLogger(tmp_path, name="", version=""))
    assert "train/grad_norm" in (tmp_path / "metrics.csv").read_text()


@pytest.mark.parametrize("options", [{"logger": False}, {"fast_dev_run": True}, {"log_every_n_steps": 0}])
def test_where_nothing_is_logged_it_stays_silent(tmp_path: Path, options: dict[str, Any]) -> None:
    assert norms(tmp_path, [1.0], **options) == []
