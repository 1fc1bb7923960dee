"""Compare an exported file with its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from torch import Tensor

    from train_smarter.data.examples import Tree
    from train_smarter.inference.exporter import EndToEnd, Network


@dataclass
class Comparison:
    """How far an exported file is from its checkpoint.

    examples: how many were compared.
    differences: the largest absolute difference of each output of floats; NaN where one of them is NaN.
    scales: the largest finite absolute value of each of these outputs.
    differ: examples with another decision, by its noun.
    """

    examples: int = 0
    differences: dict[str, float] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    differ: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return "; ".join([self._numbers(), *(_decision(noun, count) for noun, count in self.differ.items())])

    def _numbers(self) -> str:
        where = f"on {self.examples} test examples"
        shown = {name: f"{difference:.1e}" for name, difference in self.differences.items()}
        for name, scale in self.scales.items():
            shown[name] += f" (of values up to {scale:.4g})" if scale > 1 else ""
        if len(shown) == 1:
            name, text = next(iter(shown.items()))
            return f"largest difference of {'a probability' if name == 'probabilities' else name} {where}: {text}"
        pairs = ", ".join(f"{name} {text}" for name, text in shown.items())
        return f"largest differences {where}: {pairs}" if pairs else f"compared {where}"

    @property
    def largest(self) -> float:
        """The largest difference, as a share of the output's largest value where that is above 1.

        Without an output of floats, the largest share of examples with another decision.
        """
        shares = [difference / max(1, self.scales[name]) for name, difference in self.differences.items()]
        shares = shares or [count / max(1, self.examples) for count in self.differ.values()]
        return math.nan if any(math.isnan(share) for share in shares) else max(shares, default=0.0)


def _decision(noun: str, count: int) -> str:
    return f"{count} get another {noun}" if count else f"all get the same {noun}"


def compare_export(file: Network, network: EndToEnd, batches: Iterable[Tree]) -> Comparison:
    """Compare the outputs of an exported file with those of the checkpoint's network."""
    import torch
    from torch.utils._pytree import tree_leaves

    result = Comparison()
    for batch in batches:
        with torch.no_grad():
            given, wanted = (_by_name(run(*tree_leaves(batch)), network) for run in (file, network))
        result.examples += len(next(iter(wanted.values())))
        for name, values in wanted.items():
            if values.is_floating_point():
                difference = _largest_difference(given[name], values)
                result.differences[name] = _max(result.differences.get(name, 0.0), difference)
                scale = float(values.abs().where(values.isfinite(), 0).max())
                result.scales[name] = max(result.scales.get(name, 0.0), scale)
        decided = network.decisions(given)
        for noun, decision in network.decisions(wanted).items():
            unequal = (decided[noun] != decision).reshape(len(decision), -1).any(1)
            result.differ[noun] = result.differ.get(noun, 0) + int(unequal.sum())
    return result


def _by_name(outputs: Any, network: EndToEnd) -> dict[str, Tensor]:
    return dict(outputs) if isinstance(outputs, Mapping) else {next(iter(network.outputs)): outputs}


def _largest_difference(given: Tensor, wanted: Tensor) -> float:
    difference = (given - wanted).abs()
    return float(difference.where(given != wanted, 0).max())  # equal infinities differ by NaN


def _max(one: float, other: float) -> float:
    """NaN if one of them is."""
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)
