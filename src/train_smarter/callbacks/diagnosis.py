"""What went wrong with this run, by which number, and what would help?"""

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import OmegaConf
from torch import Tensor

from train_smarter.data.base import Data, class_counts
from train_smarter.diagnosis.findings import Finding, make_limits
from train_smarter.diagnosis.measurements import Evidence, Measurements, track_update_peak, validations_per_epoch
from train_smarter.diagnosis.probes import layer_norms, layers_of, locate_nan, measure_shift, record_relu_activity
from train_smarter.diagnosis.rules import diagnose, to_json
from train_smarter.diagnosis.suggestions import suggest
from train_smarter.errors import UserError
from train_smarter.fit.module import Model
from train_smarter.run import tensorboard
from train_smarter.run.files import append_row, read_json, write_json
from train_smarter.terminal import finding_line

log = logging.getLogger(__name__)


CARRIED_OVER = ("first_loss", "nan_location", "gradient_peak", "update_peak", "peak_rate")  # facts of earlier epochs
# Told while a run trains, as soon as it is found; another problem when it has been there for SETTLED epochs.
CERTAIN = ("nan_loss", "exploding_gradients", "class_imbalance")
REPEATS_TO_LOG = 3
OFTEN, SELDOM = 20, 10  # epochs up to which each is judged, and from one to the next after that


class Diagnosis(Callback):
    """Measures a few steps of each epoch, warns of what is sure, and ends with diagnosis.json in the run's folder.

    layers.csv gets a row a layer and epoch. A loss is looked at in every step on the CPU, and on a GPU, which must not
    wait, where Lightning logs. Of several processes, the first one measures its own share.

    Args:
        folder: the run's.
        samples: steps measured in an epoch.
        stop: end the training at a loss that is not finite; with several processes, after the next validation.
        limits: what counts as a finding; see `findings.Limits`.
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
        self._measured: list[tuple[Tensor, Tensor, Tensor]] = []  # norms of gradients, weights, changes: (L,) each
        self._filtered = False  # whether layers that are not used, and have no gradient, have been left out
        self._before: list[Tensor] | None = None  # weights before the step under way
        self._since: float | None = None  # the last step ended
        self._began = 0.0
        self._fired: dict[str, Tensor] = {}
        self._watching = ExitStack()

    # ---- what stays when a run goes on

    def state_dict(self) -> dict[str, Any]:
        return {
            "run": self.folder.name,
            "told": sorted(self._told),
            "measured": [torch.stack(step).cpu() for step in self._measured],
            "waited": self._waited,
            "worked": self._worked,
            "steps": self._steps,
            **{name: getattr(self.facts, name) for name in CARRIED_OVER},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.facts.training_done or state_dict["run"] != self.folder.name:  # it is looked at, or another run's
            return
        self._measured = [tuple(step.unbind()) for step in state_dict["measured"]]
        for name in CARRIED_OVER:
            setattr(self.facts, name, state_dict[name])
        self._told = set(state_dict["told"])
        self._waited, self._worked, self._steps = (state_dict[name] for name in ("waited", "worked", "steps"))

    # ---- before the first step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.layers, self._filtered = layers_of(pl_module), False
        self.facts.validations = validations_per_epoch(trainer)
        for stopping in self._early_stoppings(trainer):
            self.facts.patience = stopping.patience
        if not trainer.is_global_zero:
            return
        self._chosen = self._steps_of(trainer)  # here, too: a run that goes on may begin within an epoch
        self.folder.mkdir(parents=True, exist_ok=True)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, Data):
            self._inspect_data(data, pl_module)

    @staticmethod
    def _early_stoppings(trainer: Trainer) -> list[EarlyStopping]:
        return [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]  # type: ignore[attr-defined]

    def _inspect_data(self, data: Data, model: LightningModule) -> None:
        train, val = data.examples["train"], data.examples["val"]
        self.facts.names, self.facts.train_classes = list(data.names), class_counts(train.targets, data.num_classes)
        if isinstance(model, Model):
            self.facts.chance_loss = model.task.chance_loss(model.task.targets((train.inputs, train.targets)))
        self.facts.shift = measure_shift(train.inputs, val.inputs)

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
            scaler = getattr(trainer.precision_plugin, "scaler", None)  # of 16-mixed: the loss is scaled already
            scale = scaler.get_scale() if scaler is not None else 1
            self.facts.first_loss = value * trainer.accumulate_grad_batches / scale
        if math.isfinite(value):
            return
        if self.facts.nan_location is None:
            self._locate_nan(trainer, pl_module)
        if self.stop and trainer.world_size == 1:
            trainer.should_stop = True

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:  # noqa: ARG002
        if self._number not in self._chosen:
            return
        if not self._filtered:
            used = {name: all(p.grad is not None for p in weights) for name, weights in self.layers.items()}
            self.layers, self._filtered = {name: self.layers[name] for name in self.layers if used[name]}, True
        gradients = [[p.grad for p in weights if p.grad is not None] for weights in self.layers.values()]
        if gradients and all(map(len, gradients)):
            with torch.no_grad():
                self._before = [p.detach().clone() for weights in self.layers.values() for p in weights]
                weight = layer_norms(self.layers)
                self._measured.append((layer_norms(dict(zip(self.layers, gradients, strict=True))), weight, weight))

    def on_train_batch_end(self, *_: Any) -> None:
        if self._before is not None:
            with torch.no_grad():
                before = iter(self._before)
                changes = {name: [p - next(before) for p in weights] for name, weights in self.layers.items()}
                moved = layer_norms(changes)
            self._measured[-1] = (*self._measured[-1][:2], moved)
            self._before = None
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
            self.facts.confusion = pl_module.epoch_metrics["val"].details().get("confusion", [])
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
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.facts.rate, self.facts.peak_rate = rate, max(rate, self.facts.peak_rate)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._write_layers(trainer.current_epoch)
        self._measured = []

    def _write_layers(self, epoch: int) -> None:
        measured = torch.stack([torch.stack(step).cpu() for step in self._measured]) if self._measured else None
        if measured is not None:
            self.facts.gradient_peak = track_update_peak(
                self.facts.gradient_peak, measured[:, 0], measured[:, 1], epoch
            )
            self.facts.update_peak = track_update_peak(self.facts.update_peak, measured[:, 2], measured[:, 1], epoch)
        for i, name in enumerate(self.layers if measured is not None else ()):
            assert measured is not None
            # In the very first step, what begins at zero has no gradient yet.
            gradient, weight, moved = measured[1 if epoch == 0 and len(measured) > 1 else 0 :, :, i].T  # (S,) each
            row = {"grad_norm": gradient.median(), "weight_norm": weight[-1]}
            row["update_ratio"] = (moved / weight.clamp(min=1e-30)).median()
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
        self.facts.training_done = True
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
        inputs = self._batch[0] if isinstance(self._batch, tuple | list) else None
        where = locate_nan(pl_module, inputs) if isinstance(inputs, Tensor) else "loss"
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step, "batch": self._number}
        self.facts.nan_location = {**place, "where": where}
