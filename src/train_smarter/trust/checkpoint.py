"""The state of Lightning's ModelCheckpoint in a checkpoint file, before it is restored."""

import logging
from pathlib import Path
from typing import Any

from train_smarter.run.checksums import damage_of
from train_smarter.run.run_dir import global_rank

log = logging.getLogger(__name__)

NAMES = ("best_model_path", "last_model_path", "kth_best_model_path")


def rebase_names(state: dict[str, Any], folder: Path) -> None:
    """Make every path in a state name an intact checkpoint next to the file that holds the state; others are dropped.

    ModelCheckpoint deletes the worst of these files when it saves a better one, if they are in its `dirpath`. Without
    the best one, the next best takes its place, and without any, the next validation.

    Args:
        state: of a ModelCheckpoint; changed in place.
        folder: of the checkpoint that holds the state.
    """

    def here(path: Any) -> str:
        file = folder / Path(str(path)).name
        known = path and file.suffix == ".ckpt" and file.is_file() and not file.is_symlink()
        return str(file) if known and not damage_of(file) else ""

    state["dirpath"] = str(folder)
    best = folder / Path(str(state.get("best_model_path"))).name
    for key in NAMES:
        state[key] = here(state.get(key))
    known = dict(state.get("best_k_models") or {})
    state["best_k_models"] = left = {here(path): score for path, score in known.items() if here(path)}
    if not state["best_model_path"] and (score := state.get("best_model_score")) is not None:
        if global_rank() == 0:
            log.warning(
                "%s cannot be used: %s; the next best checkpoint, or else last.ckpt, is used", best, damage_of(best)
            )
        state["best_model_path"] = min(left, key=lambda path: abs(float(left[path] - score)), default="")
        state["best_model_score"] = left.get(state["best_model_path"])
