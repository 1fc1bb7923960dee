"""What went wrong with this run, by which number, and what would help?"""

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils._pytree import tree_map

from train_smarter.data.base import Data
from train_smarter.data.examples import move, spread
from train_smarter.data.split import class_counts
from train_smarter.diagnosis.findings import Finding, make_limits
from train_smarter.diagnosis.layer_probe import LayerProbe
from train_smarter.diagnosis.measurements import Evidence, Measurements, track_update_peak, validations_per_epoch
from train_smarter.diagnosis.probes import SAMPLED_EXAMPLES, locate_nan, measure_shift, record_relu_activity
from train_smarter.diagnosis.rules import diagnose, to_json
from train_smarter.diagnosis.suggestions import suggest
from train_smarter.errors import UserError
from train_smarter.fit.module import Model
from train_smarter.run import tensorboard
from train_smarter.run.files import append_row, read_json, write_json
from train_smarter.task.classification import Classification
from train_smarter.terminal import finding_line

log = logging.getLogger(__name__)


# Facts of earlier epochs.
CARRIED_OVER = ("first_loss", "zero_loss", "nan_location", "gradient_peak", "update_peak", "peak_rate")
# Told while a run trains, as soon as it is found; another problem when it has been there for SETTLED epochs.
CERTAIN = ("nan_loss", "exploding_gradients", "class_imbalance")
REPEATS_TO_LOG = 3
SAMPLED_BYTES, SLOW_EXAMPLES = 2**26, 256  # that the chance loss is computed on at most
OFTEN, SELDOM = 20, 10  # epochs up to which each is judged, and from one to the next after that


class Diagnosis(Callback):
    """Measures a few steps of each epoch, warns of what is sure, and ends with diagnosis.json in the run's folder.

    layers.csv gets a row a layer and epoch. A loss is looked at in every step on the CPU, and on a GPU, which must not
    wait, where Lightning logs. Of several processes, the first one measures its own share.

    Args:
        folder: the run's.
        samples: steps measured in an epoch.
        stop: end the training at a loss that is not finite; with several processes, after the next validation.
        limits: what counts as a finding; see `findings.Limits`. An absent one has its value of conf/.
    """

    def __init__(self, *, folder: str, limits: Mapping[str, float], samples: int = 4, stop: bool = True) -> None:
        if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
            raise UserError(f"callbacks.diagnosis.samples={samples}: give a whole number of at least 1")
        self.folder, self.samples, self.stop, self.limits = Path(folder), samples, stop, make_limits(limits)
        self.facts = Measurements()
        self.findings: list[Finding] = []
        self._told: set[str] = set()
        self._seen: Counter[str] = Counter()  # in so many judgements in a row
        self._waited = self._worked = 0.0  # seconds without a batch, and with one
        self._steps = 0  # that were waited for
        self._batch: Any = None
        self._chosen: set[int] = set()
        self._probe = LayerProbe()
        self._outputs: Any = None  # of the network, in the first step
        self._first_outputs = ExitStack()  # removes the hook that records them
        self._since: float | None = None  # the last step ended
        self._began = 0.0
        self._fired: dict[str, Tensor] = {}
        self._watching = ExitStack()

    # ---- what stays when a run goes on

    def state_dict(self) -> dict[str, Any]:
        return {
            "run": self.folder.name,
            "told": sorted(self._told),
            "measured": [step.cpu() for step in self._probe.steps],
            "waited": self._waited,
            "worked": self._worked,
            "steps": self._steps,
            **{name: getattr(self.facts, name) for name in CARRIED_OVER},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.facts.training_done or state_dict["run"] != self.folder.name:  # it is looked at, or another run's
            return
        self._probe.steps = list(state_dict["measured"])
        for name in CARRIED_OVER:
            setattr(self.facts, name, state_dict.get(name))
        self._told = set(state_dict["told"])
        self._waited, self._worked, self._steps = (state_dict[name] for name in ("waited", "worked", "steps"))

    # ---- before the first step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._probe.watch(pl_module)
        optimizers = [optimizer for optimizer in trainer.optimizers if optimizer.param_groups]  # not Lightning's mock
        self.facts.single_loss = pl_module.automatic_optimization and len(optimizers) == 1
        self.facts.validations = validations_per_epoch(trainer)
        for stopping in self._early_stoppings(trainer):
            self.facts.patience = stopping.patience
        if not trainer.is_global_zero:
            return
        self._chosen = self._steps_of(trainer)  # here, too: a run that goes on may begin within an epoch
        self.folder.mkdir(parents=True, exist_ok=True)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, Data):
            self._inspect_data(data)
            if isinstance(pl_module, Model):
                self._inspect_task(data, pl_module)

    @staticmethod
    def _early_stoppings(trainer: Trainer) -> list[EarlyStopping]:
        return [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]  # type: ignore[attr-defined]

    def _inspect_data(self, data: Data) -> None:
        train, val = data.examples["train"], data.examples["val"]
        self.facts.val_examples = len(val)
        self.facts.shift = measure_shift(train.inputs, val.inputs, texts=data.has_token_inputs)

    def _inspect_task(self, data: Data, model: Model) -> None:
        facts, task = self.facts, model.task
        facts.metrics = dict(task.metrics)
        if isinstance(task, Classification):
            targets = data.examples["train"].targets
            facts.names, facts.train_classes = list(data.names), class_counts(targets, data.num_classes)
            if isinstance(targets, Tensor):
                # A balanced sampler draws as if there were one example of each class.
                facts.chance_loss = task.chance_loss(targets.unique() if data.sampler == "balanced" else targets)
                return
        try:
            facts.chance_loss = _chance_loss(data, model)
        except Exception as error:  # a task of the user's own must not end the run here
            log.warning("the chance loss of %s is unknown to the diagnosis: %s", type(task).__name__, error)
        if facts.first_loss is None:
            hook = model.register_forward_hook(lambda _module, _inputs, outputs: setattr(self, "_outputs", outputs))
            self._first_outputs.callback(hook.remove)

    # ---- a step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._diagnose(trainer)
        self._chosen = self._steps_of(trainer) if trainer.is_global_zero else set()
        self._since = None

    def _steps_of(self, trainer: Trainer) -> set[int]:
        """Batches of an epoch whose step is measured, evenly spread; and the first step, when most can go wrong."""
        batches, together = int(min(trainer.num_training_batches, 10**6)), trainer.accumulate_grad_batches
        steps = max(1, batches // together)
        every = max(1, steps // self.samples)
        first = {0} if trainer.global_step == 0 else set()
        return {(step + 1) * together - 1 for step in first | {every // 2 + every * i for i in range(self.samples)}}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        self._began = time.perf_counter()
        if self._since is not None:
            self._waited += self._began - self._since
            self._steps += 1
        self._batch, self._number = batch, batch_idx

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """The weights are still those that made the loss."""
        if not loss.is_cpu and trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        value = loss.item()
        if self.facts.first_loss is None:
            self._measure_zero_loss(pl_module)
            scaler = getattr(trainer.precision_plugin, "scaler", None)  # of 16-mixed: the loss is scaled already
            scale = scaler.get_scale() if scaler is not None else 1
            self.facts.first_loss = value * trainer.accumulate_grad_batches / scale
        if math.isfinite(value):
            return
        if self.facts.nan_location is None:
            self._locate_nan(trainer, pl_module)
        if self.stop and trainer.world_size == 1:
            trainer.should_stop = True

    def _measure_zero_loss(self, module: LightningModule) -> None:
        outputs, self._outputs = self._outputs, None
        self._first_outputs.close()
        if outputs is None or not isinstance(module, Model):
            return
        with torch.no_grad(), suppress(Exception):  # a `training_step` of one's own may use outputs in another way
            zeros = tree_map(lambda part: torch.zeros_like(part) if isinstance(part, Tensor) else part, outputs)
            loss = float(module.task.loss(zeros, module.task.targets(self._batch)))
            self.facts.zero_loss = loss if math.isfinite(loss) else None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:  # noqa: ARG002
        if self._number in self._chosen:
            self._probe.before_step(optimizer)

    def on_train_batch_end(self, *_: Any) -> None:
        self._probe.after_batch()
        self._batch = None  # kept, it would lie beside the next one, and slow a large network down
        self._since = time.perf_counter()
        self._worked += self._since - self._began

    # ---- a validation

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and not trainer.sanity_checking:
            self._fired = {}
            self._watching.enter_context(record_relu_activity(pl_module, self._fired))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._watching.close()
        self._since = None
        if not trainer.sanity_checking and isinstance(pl_module, Model):
            counted = pl_module.epoch_metrics.get("val")
            self.facts.confusion = counted.details().get("confusion", []) if counted is not None else []
            if self.facts.confusion:
                self.facts.val_examples = sum(map(sum, self.facts.confusion))
        if self.stop and trainer.world_size > 1 and not trainer.sanity_checking:
            self._sync_findings(trainer)

    def _sync_findings(self, trainer: Trainer) -> None:
        """On the first broken loss of any process: all of them stop here, or one would wait for the others for ever."""
        seen = [broken for broken in tensorboard.all_gather(trainer, self.facts.nan_location) if broken]
        if seen:
            self.facts.nan_location = min(seen, key=lambda broken: int(broken["step"]))
            trainer.should_stop = True

    # ---- an epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if self.facts.single_loss:
            rate = float(trainer.optimizers[0].param_groups[0]["lr"])
            self.facts.rate, self.facts.peak_rate = rate, max(rate, self.facts.peak_rate)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._write_layers(trainer.current_epoch)
        self._probe.steps = []

    def _write_layers(self, epoch: int) -> None:
        facts, measured = self.facts, self._probe.take()
        if measured is not None:
            gradients, weights, changes = measured.unbind(1)  # (S, L) each
            facts.gradient_peak = track_update_peak(facts.gradient_peak, gradients, weights, epoch)
            facts.update_peak = track_update_peak(facts.update_peak, changes, weights, epoch)
            for name, row in self._probe.rows(measured, first_epoch=epoch == 0):
                self._append(epoch, name, row)
        for name, fired in self._fired.items():
            self._append(epoch, name, {"dead_relu_fraction": 1 - fired.float().mean()})
        self._fired = {}

    def _append(self, epoch: int, layer: str, values: Mapping[str, Tensor]) -> None:
        blank = dict.fromkeys(("weight_norm", "grad_norm", "update_ratio", "dead_relu_fraction"))
        told = {name: f"{float(value):.4g}" for name, value in values.items()}
        append_row(self.folder / "layers.csv", {"epoch": epoch, "layer": layer, **blank, **told})

    # ---- what it comes to

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self.facts.training_done, self.facts.epochs = True, trainer.current_epoch
        self.facts.stopped = any(stopping.stopped_epoch for stopping in self._early_stoppings(trainer))
        self._diagnose(trainer)
        self._write(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Model) or not (self.facts.training_done or self._load_earlier()):
            return
        tested = {split: tally for split, tally in pl_module.test_metrics.items() if split in ("train", "val")}
        metrics = {f"{s}/{name}": value for s, tally in tested.items() for name, value in tally.scores().items()}
        self.facts.clean = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if "val" in tested:
            self.facts.confusion = tested["val"].details().get("confusion", [])
        self._diagnose(trainer)
        self._write(trainer)

    def _load_earlier(self) -> bool:
        """Whether training had ended in an earlier start of this run, which then left its facts."""
        try:
            self.facts = Measurements(**read_json(self.folder / "diagnosis.json")["measured"])
        except (UserError, LookupError, TypeError):
            return False
        return self.facts.training_done

    def _diagnose(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if not self.facts.training_done and trainer.current_epoch > OFTEN and trainer.current_epoch % SELDOM:
            return
        if total := self._waited + self._worked:
            self.facts.data_wait, self.facts.step_wait = self._waited / total, self._waited / max(1, self._steps)
        self.findings = diagnose(Evidence.read(self.folder, self.facts), self.limits)
        if not self.facts.training_done:
            self._log_findings()

    def _log_findings(self) -> None:
        """A warning in the log, once, of what will not be taken back."""
        problems = {finding.name for finding in self.findings if finding.severity == "problem"}
        self._seen = Counter({name: self._seen[name] + 1 for name in problems})
        for finding in self.findings:
            sure = finding.name in CERTAIN or self._seen[finding.name] >= REPEATS_TO_LOG
            if sure and finding.name not in self._told:
                self._told.add(finding.name)
                log.warning("%s", finding_line(asdict(finding)))

    def _write(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            config = self._config()
            found = to_json(self.findings, lambda finding: suggest(finding, config, self.facts))
            write_json(self.folder / "diagnosis.json", {"findings": found, "measured": asdict(self.facts)})

    def _config(self) -> dict[str, Any]:
        """The run's own, which lies in its folder."""
        file = self.folder / "config.yaml"
        config: Any = OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else {}
        return dict(config)

    def _locate_nan(self, trainer: Trainer, pl_module: LightningModule) -> None:
        inputs = self._batch[0] if isinstance(self._batch, tuple | list) and self._batch else self._batch
        where = locate_nan(pl_module, inputs)
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step, "batch": self._number}
        self.facts.nan_location = {**place, "where": where}


def _chance_loss(data: Data, model: Model) -> float | None:
    """The task's, on a sample of the training examples as the network gets them."""
    train, device = data.examples["train"], model.device
    index = torch.arange(0, len(train), max(1, len(train) // SAMPLED_EXAMPLES))
    if len(index) * train.bytes > SAMPLED_BYTES * len(train) or train.slow:
        index = spread(len(train), max(1, min(SLOW_EXAMPLES, SAMPLED_BYTES * len(train) // train.bytes)))
    inputs, targets = train.read(index)
    batch = move(inputs, device), move(targets, device)
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        return model.task.chance_loss(model.task.targets(data.on_after_batch_transfer(batch, 0)))
