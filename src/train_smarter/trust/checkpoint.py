"""The state of Lightning's ModelCheckpoint in a checkpoint file, before it is restored."""

from pathlib import Path
from typing import Any

NAMES = ("best_model_path", "last_model_path", "kth_best_model_path")


def rebase_names(state: dict[str, Any], folder: Path) -> None:
    """Make every path in a state name a checkpoint beside the file that holds the state; others are dropped.

    ModelCheckpoint deletes the worst of these files when it saves a better one, if they are in its `dirpath`.

    Args:
        state: of a ModelCheckpoint; changed in place.
        folder: of the checkpoint that holds the state.
    """

    def here(path: Any) -> str:
        file = folder / Path(str(path)).name
        return str(file) if path and file.suffix == ".ckpt" and file.is_file() and not file.is_symlink() else ""

    state["dirpath"] = str(folder)
    for key in NAMES:
        state[key] = here(state.get(key))
    known = dict(state.get("best_k_models") or {})
    state["best_k_models"] = {here(path): score for path, score in known.items() if here(path)}
