"""Which setting ended a training, and how it is typed for a longer one."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any


def ended_by(config: Mapping[str, Any], epochs: int) -> str:
    """The setting that ended a training after so many epochs.

    Returns:
        max_epochs, max_time, max_steps or early_stopping.
    """
    trainer, most = config.get("trainer") or {}, (config.get("trainer") or {}).get("max_epochs")
    if isinstance(most, int) and 0 <= most <= epochs:
        return "max_epochs"
    if trainer.get("max_time"):
        return "max_time"
    if (trainer.get("max_steps") or -1) > 0:
        return "max_steps"
    return "early_stopping" if (config.get("callbacks") or {}).get("early_stopping") else "max_epochs"


def longer_time(given: Any, factor: int) -> str | None:
    """A `trainer.max_time` times a factor, as DD:HH:MM:SS; None: it is no time.

    Args:
        given: DD:HH:MM:SS, or the arguments of a timedelta.
    """
    try:
        if isinstance(given, Mapping):
            seconds = timedelta(**{str(name): float(value) for name, value in given.items()}).total_seconds()
        else:
            days, hours, minutes, rest = map(int, str(given).split(":"))
            seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    except (TypeError, ValueError):
        return None
    minutes, rest = divmod(round(seconds * factor), 60)
    return f"{minutes // 1440:02}:{minutes // 60 % 24:02}:{minutes % 60:02}:{rest:02}"
