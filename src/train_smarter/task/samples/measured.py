"""How the metrics of a recommender were measured: they mean little without it."""

from collections.abc import Mapping
from typing import Any

from train_smarter.task.samples.views import View, texts

NO_LEAK = "training precedes the test in time"


def measured_view(data: Any, facts: Mapping[str, str]) -> View:
    """The split of the data, whether it leaks from the future, and more facts."""
    parts, settings = getattr(data, "parts", None), getattr(data, "split_settings", None)
    split = {} if parts is None or settings is None else {f"split: {settings.kind}": parts.leak or NO_LEAK}
    return texts("how it was measured", [*split.items(), *facts.items()])
