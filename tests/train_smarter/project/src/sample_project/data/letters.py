"""A made text as windows of letters, for a language model."""

import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from train_smarter import Data, Examples, RawDataset, RawInput

LETTERS = " abcdefghijklmnopqrstuvwxyz"
WORDS = "a bird can dive, the cat eats fish; old horses jump high".replace(",", "").replace(";", "").split()


class Letters(Data):
    """`count` windows of `length` letters; the target of each letter is the one after it. Windows do not overlap.

    Args:
        vocab_size: letters, the space included.
        length: letters of a window.
        count: windows.
    """

    kind = "texts"

    def __init__(self, *, vocab_size: int, length: int = 12, count: int = 200, **data: Any) -> None:
        super().__init__(**data)
        self.vocab_size, self.length, self.count = vocab_size, length, count

    def read(self) -> RawDataset:
        size = self.count * (self.length + 1)
        text = " ".join(random.Random(0).choices(WORDS, k=size))
        windows = to_ids(text[:size]).view(self.count, self.length + 1)
        return RawDataset(list(LETTERS), Examples(windows[:, :-1].contiguous(), windows[:, 1:].contiguous()))

    def iter_inputs(self, given: str) -> Iterator[str]:
        """The text itself."""
        yield given

    def load_input(self, source: str) -> RawInput:
        return RawInput({"input": source}, to_ids(source))


def to_ids(text: str) -> Tensor:
    """A text of T letters -> ids (T,), int64."""
    if unknown := set(text) - set(LETTERS):
        raise ValueError(f"{sorted(unknown)[0]!r} is not one of the letters {LETTERS!r}")
    return torch.tensor([LETTERS.index(letter) for letter in text])
