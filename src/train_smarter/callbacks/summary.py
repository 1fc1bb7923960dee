"""What is being trained, and how large is it?"""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary

from train_smarter.terminal import echo, format_table, headed

COLUMNS = ("Name", "Type", "In sizes", "Out sizes")  # of Lightning's summary; the sizes need an example_input_array


class Summary(ModelSummary):
    """Lightning's summary: the layers that have parameters, with their number; and the optimizers' parameter groups.

    Args:
        max_depth: levels of modules; 0: no summary, -1: all.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        if len(groups) > 1 and self._max_depth and trainer.is_global_zero:
            rows = [_describe_group(place, group) for place, group in enumerate(groups)]
            echo("", headed(format_table(rows, "group", "learning rate", "weight decay", "parameters")))

    @staticmethod
    def summarize(
        summary_data: Sequence[tuple[str, Sequence[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        *_: Any,
        **__: Any,
    ) -> None:
        columns = {name.strip(): cells for name, cells in summary_data}
        shown = [name for name in COLUMNS if name in columns]
        names, counts = columns["Name"], columns["Params"]
        rows = [
            [str(columns[name][place]) for name in shown] + [count.strip()]
            for place, count in enumerate(counts)
            if count.strip() != "0" and not _is_container(names, place)
        ]
        frozen = total_parameters - trainable_parameters
        total = f"{total_parameters:,} parameters, {model_size:.3g} MB" + (
            f", {frozen:,} of them frozen" * bool(frozen)
        )
        table = [headed(format_table(rows, *map(str.lower, shown), "parameters"))] if rows else []
        echo("", *table, total)


def _describe_group(place: int, group: Mapping[str, Any]) -> list[str]:
    # What a schedule begins with may be far below the rate that it leads to.
    rate = group.get("max_lr", group.get("initial_lr", group["lr"]))
    count = sum(parameter.numel() for parameter in group["params"])
    return [str(group.get("name", place)), f"{float(rate):.3g}", f"{group.get('weight_decay', 0):g}", f"{count:,}"]


def _is_container(names: Sequence[str], place: int) -> bool:
    """Whether the layers in a module are listed, too."""
    return any(name.startswith(f"{names[place]}.") for name in names)
