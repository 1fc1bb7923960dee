"""Sections of the report that a run has because of its task, from the config alone: nothing heavy is imported."""

from collections.abc import Mapping
from typing import Any

# By the class of the task. Another task, one of your own for example, shows what its run has left.
SECTIONS = {
    "Classification": ("classes", "examples", "calibration"),
    "Multilabel": ("details", "predictions"),
    "Segmentation": ("details", "predictions"),
    "Regression": ("predictions",),
    "Rating": ("predictions",),
    "Ranking": ("predictions",),
    "Reconstruction": ("predictions",),
    "LanguageModel": ("predictions",),
}
# Sections that a callback writes.
CALLBACKS = {
    "examples": "prediction_samples",
    "predictions": "prediction_samples",
    "calibration": "calibration",
    "diagnosis": "diagnosis",
    "layers": "diagnosis",
}


def expected_sections(config: Mapping[str, Any]) -> set[str]:
    """The sections that a tested run of this config has, so that the report says what is missing."""
    # Runs from before there were tasks are classifications.
    task = config.get("task", {"_target_": "Classification"}) or {}
    target = str(task.get("_target_")).rpartition(".")[2] if isinstance(task, Mapping) else ""
    expected = {"diagnosis", "layers", *SECTIONS.get(target, ())}
    callbacks = config.get("callbacks")
    if not isinstance(callbacks, Mapping):
        return expected
    return {name for name in expected if name not in CALLBACKS or callbacks.get(CALLBACKS[name])}
