"""What every contestant is given: the experiment as `train` composes it, its examples, its network, its rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from lightning import seed_everything
from omegaconf import DictConfig, open_dict
from torch import Tensor, nn

from train_smarter.config.build import build
from train_smarter.config.check import check
from train_smarter.data.base import Data
from train_smarter.data.examples import SplitName
from train_smarter.data.image_data import ImageData
from train_smarter.data.loader import ShardedBatchSampler
from train_smarter.paths import CONF
from train_smarter.task.classification import Classification

if TYPE_CHECKING:
    from lightning import Trainer

    from train_smarter.fit.module import Model

NOTHING = ("logger=none", "callbacks=none")


@dataclass(frozen=True)
class Task:
    """One contestant's share of a race.

    Args:
        experiment: its name in conf/experiment.
        epochs: how many are run, the warm-up among them; a schedule is planned for as many.
        folder: where a run may leave its files.
        device: cpu or cuda.
        overrides: of the config, for every contestant alike.
    """

    experiment: str
    epochs: int
    folder: str
    device: str = "cpu"
    overrides: Sequence[str] = ()

    def compose(self, *more: str) -> DictConfig:
        """The config of `train experiment=...`, with the device and the number of epochs."""
        GlobalHydra.instance().clear()
        hydra.initialize_config_dir(str(CONF))
        places = [f"paths.run={self.folder}", f"paths.logs={self.folder}"]
        length = [f"trainer={'gpu' if self.device == 'cuda' else 'cpu'}", f"trainer.max_epochs={self.epochs}"]
        words = [f"experiment={self.experiment}", *places, *length, *self.overrides, *more]
        cfg = hydra.compose("train", words, return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        check(cfg)
        return cfg

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Parts:
    """The pieces of an experiment, for a loop of one's own: the same split, initial weights and rates as ours."""

    task: Task
    cfg: DictConfig
    data: Data
    model: Model

    @property
    def images(self) -> bool:
        return isinstance(self.data, ImageData)

    @property
    def binary(self) -> bool:
        return self.model.num_outputs == 1

    @property
    def classification(self) -> Classification:
        assert isinstance(self.model.task, Classification)
        return self.model.task

    @property
    def parameters(self) -> int:
        return count(self.model)

    def batches(self) -> ShardedBatchSampler:
        """Our order of the training examples, as one index for each batch."""
        return ShardedBatchSampler(
            len(self.data.examples["train"]), batch_size=self.data.batch_size, shuffle_seed=int(self.cfg.seed)
        )

    def optimizer(self, network: nn.Module, **more: Any) -> torch.optim.Optimizer:
        factory = cast(Callable[..., torch.optim.Optimizer], self.model.optimizer)
        return factory(network.parameters(), **more)

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        """The experiment's schedule of `optimizer` over `steps` steps an epoch, or None."""
        if self.model.scheduler is None:
            return None
        ends = SimpleNamespace(
            max_epochs=self.task.epochs, estimated_stepping_batches=self.task.epochs * steps, callbacks=[]
        )
        config = self.model.scheduler.build(optimizer, cast("Trainer", ends))["lr_scheduler"]
        assert config["interval"] == "step", "a peer steps its schedule with the optimizer"
        return config["scheduler"]

    def rates(self, steps: int) -> list[float]:
        """The learning rate of every step of the race, worked out beforehand."""
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=float(self.cfg.optimizer.lr))
        scheduler, rates = self.scheduler(optimizer, steps), []
        for _ in range(self.task.epochs * steps):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
        return rates

    def inputs(self, raw: Tensor) -> Tensor:
        """Bytes or small tokens -> what a network receives, without augmentation."""
        if isinstance(self.data, ImageData):
            return self.data.normalize(raw)
        return raw.long()

    def accuracy(self, network: nn.Module, split: SplitName = "test") -> float:
        """Of a split, the official test if no other is named, with the weights as they are."""
        test, hits, device = self.data.examples[split], 0, self.task.device
        network.eval()
        with torch.inference_mode():
            for index in torch.arange(len(test)).split(512):
                logits = network(self.inputs(test.inputs[index].to(device)))
                hits += int((self.classification.predict_classes(logits) == test.targets[index].to(device)).sum())
        return hits / len(test)


def prepare(task: Task, *more: str) -> Parts:
    """Composes, seeds, reads, and makes the network: what `train` does before its first step."""
    cfg = task.compose(*NOTHING, *more)
    seed_everything(cfg.seed, verbose=False)
    run = build(cfg)
    run.data.prepare_data()
    run.data.setup("fit")
    return Parts(task, cfg, run.data, run.model)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
