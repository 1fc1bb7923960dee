"""Characters of an English text that needs no network: Python's own language reference."""

from collections.abc import Iterator
from pydoc_data.topics import topics
from typing import Any

import torch

from train_smarter import Data, Examples, RawDataset, RawInput, TextLine, read_texts

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))  # printable ASCII; every other character becomes "?"


class Chars(Data):
    """The texts of `help("TOPIC")`, in windows of T characters that follow each other; targets: the next character.

    Windows do not overlap. Runs of `block` windows are never divided between the splits, so little of a sentence is in
    two of them. The text changes a little with Python's version.

    Args:
        vocab_size: 96, the size of the alphabet.
        length: T, characters of a window.
        characters: of the text that are used, from its beginning.
        block: windows in a row that belong to the same split.
    """

    kind = "windows"

    def __init__(
        self, *, vocab_size: int, length: int = 64, characters: int = 200_000, block: int = 32, **data: Any
    ) -> None:
        super().__init__(**data)
        self.vocab_size, self.length, self.characters, self.block = vocab_size, length, characters, block

    def read(self) -> RawDataset:
        text = "\n".join(topics[name] for name in sorted(topics))[: self.characters + 1]
        tokens = encode(text)
        windows = (len(tokens) - 1) // self.length
        inputs = tokens[: windows * self.length].view(windows, self.length)  # (N, T)
        targets = tokens[1 : windows * self.length + 1].view(windows, self.length)
        groups = torch.arange(windows) // self.block
        return RawDataset(ALPHABET, Examples(inputs, targets), groups=groups)

    def iter_inputs(self, given: str) -> Iterator[TextLine]:
        """Prompts: a text, or the lines of a file."""
        return read_texts(given)

    def load_input(self, source: TextLine) -> RawInput:
        if not source.text:
            raise ValueError("it is empty: a prompt has at least one character")
        return RawInput({"line": source.number, "input": source.text}, encode(source.text))


def encode(text: str) -> torch.Tensor:
    """A text -> its characters' places in the alphabet (T,), int64."""
    places = {character: place for place, character in enumerate(ALPHABET)}
    return torch.tensor([places.get(character, places["?"]) for character in text])
