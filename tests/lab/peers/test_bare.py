from pathlib import Path
from typing import Any

import pytest

from peers import bare, ours
from peers.task import NOTHING, Task


def test_bare_is_ours_without_callbacks_and_loggers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(ours, "run", lambda *given: ran.append(given))
    task, gate = Task("mnist_mlp", 1, str(tmp_path)), object()
    bare.run(task, gate)  # type: ignore[arg-type]
    assert ran == [(task, gate, *NOTHING)]
