"""What stands in for the task of a plain LightningModule."""

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from train_smarter.task.base import Task


class RawOutputs(Task):
    """Predictions are what `forward` returns: `output`, the keys of a dict, or `output_0`, `output_1`, ..."""

    def predict(self, outputs: Any) -> dict[str, Tensor]:
        if isinstance(outputs, dict):
            return {str(key): value for key, value in outputs.items() if isinstance(value, Tensor)}
        tensors = [part for part in tree_leaves(outputs) if isinstance(part, Tensor)]
        if len(tensors) == 1:
            return {"output": tensors[0]}
        return {f"output_{number}": tensor for number, tensor in enumerate(tensors)}
