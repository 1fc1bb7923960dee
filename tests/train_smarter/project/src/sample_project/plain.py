"""Lightning classes that know nothing of the template: what a user brings along from another project."""

import math
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, TensorDataset


class Points(LightningDataModule):
    """Noisy points of the line y = 2x + 1: 64 to train, 20 to validate, 10 to test."""

    def __init__(self, batch_size: int = 16) -> None:  # noqa: ARG002 (saved)
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:  # noqa: ARG002 (Lightning's hook)
        random = torch.Generator().manual_seed(0)
        x = torch.rand(94, 1, generator=random)
        y = 2 * x + 1 + 0.1 * torch.randn(94, 1, generator=random)
        self.train, self.val, self.test = (
            TensorDataset(x[start:end], y[start:end]) for start, end in ((0, 64), (64, 84), (84, 94))
        )

    def train_dataloader(self) -> Any:
        return DataLoader(self.train, self.hparams["batch_size"], shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val, self.hparams["batch_size"])

    def test_dataloader(self) -> Any:
        return DataLoader(self.test, self.hparams["batch_size"])


class DictPoints(Points):
    """The same points in batches of {"x": (B, 1), "y": (B, 1)}."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> dict[str, Tensor]:  # noqa: ARG002
        return {"x": batch[0], "y": batch[1]}


class Line(LightningModule):
    """A linear regression with dropout, which draws random numbers in each step."""

    def __init__(self, lr: float = 0.1) -> None:  # noqa: ARG002 (saved)
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)  # type: ignore[no-any-return]

    def on_train_epoch_start(self) -> None:
        self.losses: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ARG002
        loss = self.loss(batch)
        self.losses.append(loss.detach())
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        self.log("val_loss", self.loss(batch), sync_dist=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        x, y = self.parts(batch)
        self.log("test_loss", self.loss(batch), sync_dist=True)
        self.log("test_mae", (self(x) - y).abs().mean(), sync_dist=True)

    def loss(self, batch: Any) -> Tensor:
        x, y = self.parts(batch)
        return nn.functional.mse_loss(self(x), y)

    def parts(self, batch: Any) -> tuple[Tensor, Tensor]:
        x, y = batch
        return x, y

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=self.hparams["lr"])


class DictLine(Line):
    """The same network for batches that are dicts."""

    def parts(self, batch: Any) -> tuple[Tensor, Tensor]:
        return batch["x"], batch["y"]


class GAN(LightningModule):
    """A generator of y and its critic: two optimizers, which step by hand."""

    def __init__(self, lr: float = 0.05) -> None:  # noqa: ARG002 (saved)
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator, self.critic = nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))

    def fake(self, like: Tensor) -> Tensor:
        return self.generator(torch.randn_like(like))  # type: ignore[no-any-return]

    def training_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        generator, critic = self.optimizers()  # type: ignore[attr-defined]
        real = batch[1]
        ones, zeros = torch.ones_like(real), torch.zeros_like(real)
        bce = nn.functional.binary_cross_entropy_with_logits
        critic_loss = bce(self.critic(real), ones) + bce(self.critic(self.fake(real).detach()), zeros)
        critic.zero_grad()
        self.manual_backward(critic_loss)
        critic.step()
        generator_loss = bce(self.critic(self.fake(real)), ones)
        generator.zero_grad()
        self.manual_backward(generator_loss)
        generator.step()
        self.log_dict({"generator_loss": generator_loss, "critic_loss": critic_loss}, prog_bar=True)

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        self.log("val_gap", (batch[1].mean() - self.fake(batch[1]).mean()).abs(), sync_dist=True)

    def configure_optimizers(self) -> Any:
        lr = self.hparams["lr"]
        return [SGD(self.generator.parameters(), lr=lr), SGD(self.critic.parameters(), lr=lr)], []


class Brightness(Line):
    """The same network for the images and labels of a data set of the template: the label by the mean of the pixels."""

    def parts(self, batch: Any) -> tuple[Tensor, Tensor]:
        return batch[0].float().mean((1, 2, 3))[:, None], batch[1].float()[:, None]


class WithFunction(Line):
    """Has a hyperparameter that is a function, as a module with an exchangeable activation has."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        self.hparams["activation"] = math.tanh
