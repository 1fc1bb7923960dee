"""The state of Lightning's ModelCheckpoint in a checkpoint file, before it is restored."""

from pathlib import Path
from typing import Any

NAMES = ("best_model_path", "last_model_path", "kth_best_model_path")


def rebase_names(state: dict[str, Any], folder: Path) -> None:
    """Make every checkpoint path in a state point into the folder of the file that holds the state.

    ModelCheckpoint deletes the worst of these files when it saves a better one, if they are in its `dirpath`.

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
