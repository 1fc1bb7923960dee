from typing import Any
from unittest.mock import Mock

import pytest
from lightning.pytorch.callbacks import RichProgressBar

from train_smarter.callbacks.progress import Progress


def shown(monkeypatch: pytest.MonkeyPatch, *, batches: int, refresh_rate: int, seconds: float = 1.0) -> list[int]:
    """The batches, counted from one, after which the bar is drawn; each of them takes so many seconds."""
    drawn: list[int] = []
    clock = [100]
    monkeypatch.setattr("time.monotonic", Mock(side_effect=lambda: seconds * clock[0]))

    def draw(self: Any, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG001
        drawn.append(batch_idx + 1)

    monkeypatch.setattr(RichProgressBar, "on_train_batch_end", draw)
    bar = Progress(refresh_rate=refresh_rate)
    for batch_idx in range(batches):
        clock[0] += 1
        trainer = Mock(is_last_batch=batch_idx + 1 == batches)
        bar.on_train_batch_end(trainer, Mock(), None, None, batch_idx)
    return drawn


def test_the_bar_rests_between_two_refreshes_and_ends_with_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, batches=25, refresh_rate=10) == [10, 20, 25]


def test_a_bar_that_is_switched_off_is_not_drawn_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, batches=5, refresh_rate=0) == [5]


def test_the_bar_is_drawn_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    # a second is 10 batches of 0.1 s: of every fourth, those 12 after the last one that was drawn
    assert shown(monkeypatch, batches=29, refresh_rate=4, seconds=0.1) == [4, 16, 28, 29]
