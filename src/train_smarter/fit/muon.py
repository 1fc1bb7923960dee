"""Muon for the matrices of hidden layers, AdamW for the other weights: one optimizer."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import AdamW, Optimizer

from train_smarter.fit.finetuning import split_blocks

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the iteration, as in torch.optim.Muon
EPS = 1e-7  # the same
# Layers whose weights map features to features. An embedding's rows are looked up, and stay with AdamW.
MATRIX_LAYERS = (nn.Linear, nn.Bilinear, _ConvNd, nn.RNNBase, nn.MultiheadAttention)


class Muon(Optimizer):
    """Orthogonalizes the update of each matrix (Jordan et al. 2024); groups without `matrix: True` are AdamW's.

    torch.optim.Muon's numbers, with its `adjust_lr_fn="match_rms_adamw"` (Liu et al. 2025), so that both parts share a
    learning rate and a weight decay. That class takes matrices alone; here, the weights of a convolution are one of
    (outputs, inputs * kernel).

    Args:
        params: parameters, or groups of them; `matrix_groups` makes them for a model.
        lr: step size.
        weight_decay: decoupled: share of each weight subtracted per step, times lr.
        momentum, nesterov, ns_steps: of Muon; `ns_steps` are the Newton-Schulz iterations.
        betas, eps: of AdamW.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        weight_decay: float = 1e-2,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not 1 <= ns_steps < 100:
            raise ValueError(f"ns_steps={ns_steps}: give a whole number from 1 to 99")
        own = {"matrix": False, "momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps}
        self._adamw = AdamW([torch.zeros(0)], lr=lr, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay)
        super().__init__(params, self._adamw.defaults | own)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"] if group["matrix"] else ():
                if weight.grad is not None:
                    self._step_matrix(weight, weight.grad, group)
        # AdamW's own step, on the groups and the state of this optimizer.
        self._adamw.param_groups = [group for group in self.param_groups if not group["matrix"]]
        self._adamw.state = self.state
        self._adamw.step()
        return loss

    def _step_matrix(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(average, group["momentum"]) if group["nesterov"] else average
        matrix = orthogonalize(update.flatten(1), steps=group["ns_steps"])
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(matrix.view(weight.shape), alpha=-group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonalize(matrix: Tensor, *, steps: int) -> Tensor:
    """About U V^T of the singular value decomposition U S V^T of a matrix, by the Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    tall = matrix.size(0) > matrix.size(1)
    x = (matrix.T if tall else matrix).to(_precision(matrix), copy=True)
    x.div_(x.norm().clamp(min=EPS))
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype).contiguous()


def _precision(matrix: Tensor) -> torch.dtype:
    """bf16 is enough for the iteration, and fast on a GPU; most CPUs only emulate it."""
    return torch.bfloat16 if matrix.is_cuda else torch.float32


def matrix_groups(model: nn.Module, given: Iterable[Any]) -> list[dict[str, Any]]:
    """Parameters, or groups of them, divided into matrices of hidden layers and the other weights.

    The head, see `split_blocks`, is none of the hidden layers.
    """
    modules = list(model.modules())
    hidden = {
        id(weight)
        for module in modules
        if isinstance(module, MATRIX_LAYERS)
        for weight in module.parameters(recurse=False)
        if weight.ndim >= 2
    }
    embedded = {id(module.weight) for module in modules if isinstance(module, nn.Embedding | nn.EmbeddingBag)}
    hidden -= embedded | {id(weight) for weight in split_blocks(model)[-1].parameters}  # tied weights, too
    groups = list(given)
    groups = groups if groups and isinstance(groups[0], dict) else [{"params": groups}]
    divided = []
    for group in groups:
        for matrix in (True, False):
            params = [weight for weight in group["params"] if (id(weight) in hidden) == matrix]
            divided += [group | {"params": params, "matrix": matrix}] if params else []
    return divided
