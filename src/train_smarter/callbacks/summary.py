"""What is being trained, and how large is it?"""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch.callbacks import ModelSummary

from train_smarter.terminal import echo, format_table

COLUMNS = ("Name", "Type", "In sizes", "Out sizes")  # of Lightning's summary; the sizes need an example_input_array


class Summary(ModelSummary):
    """Lightning's summary: the layers that have parameters, with their number.

    Args:
        max_depth: levels of modules; 0: no summary, -1: all.
    """

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
        echo(*([format_table(rows, *map(str.lower, shown), "parameters")] if rows else []), total)


def _is_container(names: Sequence[str], place: int) -> bool:
    """Whether the layers in a module are listed, too."""
    return any(name.startswith(f"{names[place]}.") for name in names)
