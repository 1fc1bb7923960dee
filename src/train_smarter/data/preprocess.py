"""What the weights of a checkpoint mean: the preprocessing of the data that they were trained on."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train_smarter.run.files import read_dict

log = logging.getLogger(__name__)


def own_preprocess(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The preprocessing in a checkpoint: under the class of its data, where Lightning puts their state."""
    held = [part["preprocess"] for part in content.values() if isinstance(part, dict) and "preprocess" in part]
    return next((one for one in held if isinstance(one, dict)), None)


def saved_preprocess(content: Mapping[str, Any], checkpoint: Path) -> dict[str, Any] | None:
    """What `Data.preprocess` returned in the run that saved a checkpoint.

    The checkpoint holds it itself. Those of older runs do not: for them, the run's folder around the file does.

    Args:
        content: of the checkpoint.
        checkpoint: its file.

    Returns:
        None, with a warning, if neither has it.
    """
    if (own := own_preprocess(content)) is not None:
        return own
    file = checkpoint.resolve().parent.parent / "preprocess.json"
    if checkpoint.resolve().parent.name == "checkpoints" and file.is_file():
        return read_dict(file)
    log.warning(
        "%s does not hold the preprocessing of its run: classes, vocabulary and normalization could not be compared",
        checkpoint,
    )
    return None
