"""Measure gradient, weight and change of each layer in some of the steps."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from train_smarter.diagnosis.probes import layer_norms, layers_of

# A layer's gradients, weights and their copies before the step.
Pending = tuple[list[str], Tensor, Tensor, dict[str, list[Tensor]]]


class LayerProbe:
    """Measures the steps of an epoch; several optimizers may each step their own layers within a batch.

    Attributes:
        steps: (3, L) each: the norms of gradient, weight and change; -1 for a layer without a gradient in that step.
    """

    def __init__(self) -> None:
        self.layers: dict[str, list[nn.Parameter]] = {}
        self.steps: list[Tensor] = []
        self._pending: list[Pending] = []

    def watch(self, model: nn.Module) -> None:
        """Measure this model; steps of an epoch that is resumed stay."""
        self.layers = layers_of(model)
        self.steps = [step for step in self.steps if step.shape[1] == len(self.layers)]

    def before_step(self, optimizer: Any) -> None:
        """Measure gradients and weights of the layers that this optimizer is about to change."""
        owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        chosen = {
            name: weights
            for name, weights in self.layers.items()
            if all(p.grad is not None and id(p) in owned for p in weights)
        }
        if not chosen:
            return
        gradients = {name: [p.grad for p in weights if p.grad is not None] for name, weights in chosen.items()}
        with torch.no_grad():
            before = {name: [p.detach().clone() for p in weights] for name, weights in chosen.items()}
            self._pending.append((list(chosen), layer_norms(gradients), layer_norms(chosen), before))

    def after_batch(self) -> None:
        """Measure by how much the weights have changed since `before_step`."""
        if not self._pending:
            return
        step = None
        for names, gradients, norms, before in self._pending:
            with torch.no_grad():
                pairs = {name: zip(self.layers[name], before[name], strict=True) for name in names}
                moved = layer_norms({name: [p - old for p, old in both] for name, both in pairs.items()})
            part = torch.stack([gradients, norms, moved])  # (3, n)
            if len(names) == len(self.layers):
                step = part
                continue
            step = part.new_full((3, len(self.layers)), -1) if step is None else step
            order = list(self.layers)
            step[:, [order.index(name) for name in names]] = part
        assert step is not None
        self.steps.append(step)
        self._pending = []

    def take(self) -> Tensor | None:
        """The steps of the epoch, (S, 3, L), on the CPU; None: there are none. The next epoch begins."""
        steps, self.steps = self.steps, []
        return torch.stack([step.cpu() for step in steps]) if steps else None

    def rows(self, measured: Tensor, *, first_epoch: bool) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """What layers.csv holds of each layer that had a gradient.

        Args:
            measured: (S, 3, L), from `take`.
            first_epoch: leave the very first step out, in which what begins at zero has no gradient yet.
        """
        for i, name in enumerate(self.layers):
            steps = measured[1 if first_epoch and len(measured) > 1 else 0 :, :, i]  # (S, 3)
            gradient, weight, moved = steps[steps[:, 1] != -1].T  # (S,) each
            if len(weight):
                row = {"grad_norm": gradient.median(), "weight_norm": weight[-1]}
                yield name, row | {"update_ratio": (moved / weight.clamp(min=1e-30)).median()}
