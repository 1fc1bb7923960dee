"""The benchmark's contestants draw on a pseudo-terminal, which Windows does not have."""

import os
from typing import Any

import pytest

collect_ignore_glob = ["test_benchmark.py", "measure/*"] if os.name == "nt" else []


class Script:
    """A gate that lets everyone pass, and notes what is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def wait(self, word: str) -> None:
        self.told.append(word)

    def tell(self, **message: Any) -> None:
        self.told.append(message)


@pytest.fixture
def gate() -> Any:
    return Script()
