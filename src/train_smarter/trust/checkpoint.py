"""What a checkpoint tells Lightning's ModelCheckpoint, before that takes it over."""

from pathlib import Path
from typing import Any

NAMES = ("best_model_path", "last_model_path", "kth_best_model_path")


def rebase_names(state: dict[str, Any], folder: Path) -> None:
    """Make the names of checkpoints in a state lead into the folder of its own file, whatever they led to before.

    ModelCheckpoint deletes the worst of them when a better one comes, if they are in its `dirpath`.

    Args:
        state: of a ModelCheckpoint; changed in place.
        folder: of the checkpoint that holds the state.
    """

    def here(path: Any) -> str:
        return str(folder / Path(path).name) if path else ""

    state["dirpath"] = str(folder)
    for key in NAMES:
        state[key] = here(state.get(key))
    state["best_k_models"] = {here(path): score for path, score in dict(state.get("best_k_models") or {}).items()}
