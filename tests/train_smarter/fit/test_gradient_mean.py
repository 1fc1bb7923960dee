"""One optimizer step follows the gradient of the mean loss over everything that was gathered for it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from train_smarter.data.base import Data
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.fit.gradient_mean import GradientMean
from train_smarter.fit.module import Model
from train_smarter.task.base import Task
from train_smarter.task.classification import Classification
from train_smarter.task.language_model import LanguageModel
from train_smarter.task.segmentation import Segmentation

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "limit_val_batches": 0,
}
Loss = Callable[[Tensor, Tensor], Tensor]


class Table(Data):
    """Examples of 4 numbers, in batches of 4."""

    def __init__(self, targets: Tensor, **data: Any) -> None:
        super().__init__(**{"batch_size": 4, "shuffle": False, **data})
        self.targets = targets

    def read(self) -> RawDataset:
        generator = torch.Generator().manual_seed(0)
        examples = Examples(torch.randn(len(self.targets), 4, generator=generator), self.targets)
        return RawDataset([], examples, examples, examples)


class Linear(Model):
    """4 numbers -> outputs of any shape."""

    def __init__(self, shape: tuple[int, ...], **model: Any) -> None:
        super().__init__(**model)
        torch.manual_seed(0)
        self.layer = nn.Linear(4, int(torch.tensor(shape).prod()))
        self.shape = shape

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)
        return outputs.view(-1, *self.shape)


class Skipping(Linear):
    """Makes nothing of every third batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 3 == 2 else loss


def fitted(model: lightning.LightningModule, data: Any, **options: Any) -> Tensor:
    """The weights after an epoch, flat."""
    lightning.Trainer(**{**QUIET, "max_epochs": 1, **options}).fit(model, data)
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def by_hand(model: Linear, data: Table, steps: list[list[int]], loss: Loss, *, rate: float = 0.5) -> Tensor:
    """The weights after steps on these batches of an epoch: each on the mean loss of all of its examples at once."""
    data.setup()
    batches = list(data.loader("train", training=True))
    for numbers in steps:
        inputs, targets = (torch.cat([batches[number][part] for number in numbers]) for part in (0, 1))
        parameters = list(model.parameters())
        gradients = torch.autograd.grad(loss(model(inputs), targets), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(rate * gradient)
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


WEIGHTS = [0.2, 1.0, 5.0]
CLASSES = torch.arange(23) % 7 % 3
TOKENS = torch.where(torch.arange(23 * 3).view(23, 3) % 11 < torch.arange(23)[:, None] % 4, 0, CLASSES[:, None] + 1)
MASKS = torch.arange(23 * 4).view(23, 2, 2) % 5 % 3
MASKS[4:9] = 255


def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, torch.tensor(WEIGHTS), ignore_index=255)


CASES: dict[str, tuple[Task, tuple[int, ...], Tensor, Loss]] = {
    "examples": (Classification(num_classes=3), (3,), CLASSES, F.cross_entropy),
    "class weights": (Classification(num_classes=3, class_weights=WEIGHTS), (3,), CLASSES, weighted),
    "tokens": (LanguageModel(vocab_size=4, ignore_index=0), (4, 3), TOKENS, partial(F.cross_entropy, ignore_index=0)),
    "pixels": (Segmentation(num_classes=3, class_weights=WEIGHTS), (3, 2, 2), MASKS, weighted),
}
# 23 examples in batches of 4: the sixth has 3.
GATHERED = {
    1: [[0], [1], [2], [3], [4], [5]],
    2: [[0, 1], [2, 3], [4, 5]],
    4: [[0, 1, 2, 3], [4, 5]],
    8: [[0, 1, 2, 3, 4, 5]],
}


@pytest.mark.parametrize("together", GATHERED)
@pytest.mark.parametrize("case", CASES)
def test_a_step_follows_the_mean_over_all_accumulated_batches(case: str, together: int) -> None:
    task, shape, targets, loss = CASES[case]
    expected = by_hand(Linear(shape, task=task), Table(targets), GATHERED[together], loss)
    model = Linear(shape, task=task, optimizer=partial(SGD, lr=0.5))
    found = fitted(model, Table(targets), accumulate_grad_batches=together)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*returned `None`.*")
def test_a_batch_that_makes_no_loss_is_not_counted() -> None:
    task, shape, targets, loss = CASES["examples"]
    model = Skipping(shape, task=task, optimizer=partial(SGD, lr=0.5))
    found = fitted(model, Table(targets), accumulate_grad_batches=3)
    expected = by_hand(Linear(shape, task=task), Table(targets), [[0, 1], [3, 4]], loss)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_scheduled_accumulation_divides_by_what_each_epoch_gathers() -> None:
    task, shape, targets, loss = CASES["examples"]
    model = Linear(shape, task=task, optimizer=partial(SGD, lr=0.5))
    schedule = GradientAccumulationScheduler({1: 4})
    found = fitted(model, Table(targets), max_epochs=2, callbacks=[schedule])
    expected = by_hand(Linear(shape, task=task), Table(targets), GATHERED[1] + GATHERED[4], loss)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_clipping_and_callbacks_see_the_mean_over_all_accumulated_batches() -> None:
    norms: list[float] = []

    class Norms(lightning.Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:  # noqa: ARG002
            norms.append(float(torch.cat([p.grad.flatten() for p in pl_module.parameters()]).norm()))

    task, shape, targets, loss = CASES["examples"]
    start = Linear(shape, task=task)
    before = torch.cat([weight.detach().flatten() for weight in start.parameters()])
    step = (by_hand(start, Table(targets), [[0, 1, 2, 3, 4, 5]], loss) - before) / 0.5
    model = Linear(shape, task=task, optimizer=partial(SGD, lr=0.5))
    found = fitted(model, Table(targets), accumulate_grad_batches=8, callbacks=[Norms()], gradient_clip_val=0.01)
    assert norms == pytest.approx([float(step.norm())], rel=1e-5)
    torch.testing.assert_close(found - before, step * 0.5 * 0.01 / step.norm(), rtol=1e-4, atol=1e-6)


def test_a_scaled_loss_is_clipped_after_its_scale_is_removed() -> None:
    task, shape, targets, _ = CASES["examples"]
    model = Linear(shape, task=task, optimizer=partial(SGD, lr=0.5))
    scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    before = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    options = {"accumulate_grad_batches": 8, "gradient_clip_val": 0.01, "plugins": [scaled]}
    step = fitted(model, Table(targets), **options) - before
    assert float(step.norm()) == pytest.approx(0.5 * 0.01, rel=1e-3)


class Plain(BoringModel):
    """A LightningModule that knows nothing of weights."""

    def configure_optimizers(self) -> Any:
        return SGD(self.layer.parameters(), lr=0.1)

    def optimizer_step(self, *given: Any, **named: Any) -> None:
        """Its own hook is called, too."""
        self.steps = getattr(self, "steps", 0) + 1
        super().optimizer_step(*given, **named)


def plain(*, attached: bool, **options: Any) -> tuple[Tensor, Tensor, int]:
    """The weights before and after an epoch of 7 batches, and how many steps it had."""
    torch.manual_seed(0)
    model = Plain()
    before = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    mean = GradientMean()
    for _ in range(2 if attached else 0):  # as for a second fit
        mean.attach(model, world=1)
    inputs = torch.randn(7, 32, generator=torch.Generator().manual_seed(1))
    return before, fitted(model, DataLoader(list(inputs), batch_size=1), **options), model.steps  # type: ignore[arg-type]


def test_the_last_step_of_another_module_is_as_large_as_the_others() -> None:
    """One step over 7 batches: with 100 to gather, Lightning divides by 100."""
    before, found, steps = plain(attached=True, accumulate_grad_batches=100)
    _, short, _ = plain(attached=False, accumulate_grad_batches=100)
    torch.testing.assert_close(found - before, (short - before) * 100 / 7, rtol=1e-4, atol=1e-6)
    assert steps == 1


@pytest.mark.parametrize("together", [1, 7])
def test_equal_batches_are_left_alone_bit_for_bit(together: int) -> None:
    weighed, left = (plain(attached=attached, accumulate_grad_batches=together) for attached in (True, False))
    assert weighed[1].equal(left[1])
