"""A run that trained nothing does not end as if it had."""

from typing import Any

import lightning
import pytest
from lightning.pytorch.demos.boring_classes import BoringModel

from train_smarter.errors import UserError
from train_smarter.fit.trained_steps import check_trained


class Manual(BoringModel):
    """Steps its optimizer itself, without Lightning's wrapper, which counts the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.zero_grad()  # type: ignore[union-attr]
        self.manual_backward(self.layer(batch).mean())
        optimizer.step()  # type: ignore[union-attr]


class Skipping(BoringModel):
    """Ends each epoch before its first batch."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int:  # noqa: ARG002
        return -1


def trained(model: lightning.LightningModule, **options: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    plan: dict[str, Any] = {**quiet, "max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 0, **options}
    trainer = lightning.Trainer(accelerator="cpu", enable_checkpointing=False, **plan)
    trainer.fit(model)
    return trainer


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*before.*optimizer.step.*")
@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        (
            BoringModel(),
            {"limit_train_batches": 0},
            "limit_train_batches=0 leaves no batch: type trainer",
        ),
        (BoringModel(), {"max_time": "00:00:00:00"}, r"the time was over before: type trainer\.max_time=\.\.\."),
        (Skipping(), {}, "a hook that stops it"),
        (Manual(), {"limit_train_batches": 0}, "leaves no batch"),
    ],
)
def test_a_training_without_a_step_is_a_mistake(
    model: lightning.LightningModule, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=f"nothing was trained, no step was made: .*{told}"):
        check_trained(trained(model, **options))


@pytest.mark.parametrize(
    ("model", "options"), [(BoringModel(), {"max_steps": 1, "accumulate_grad_batches": 4}), (Manual(), {})]
)
def test_a_training_with_a_step_is_none(model: lightning.LightningModule, options: dict[str, Any]) -> None:
    check_trained(trained(model, **options))
