"""Placeholder: generated texts about two subjects. Replace `read` with the reading of your own texts."""

import random

import torch

from train_smarter import Examples, RawDataset, TextData

NAMES = ["garden", "kitchen"]
SUBJECTS = ("rose tulip lawn hedge bee seed spade meadow", "oven spoon flour recipe plate butter kettle salt")
COMMON = "the a my your old new small large is was here there and with near under"
COUNT, WORDS = 600, 12  # texts, words in each


class Placeholder(TextData):
    """600 texts of 12 words in 2 classes, the same in every run. Three words belong to the subject."""

    def read(self) -> RawDataset:
        # Your own reading goes here. Return a list of N texts and int64 labels (N,) from 0 to K - 1, in a fixed order.
        # Where there are official splits: RawDataset(NAMES, train=Examples(...), test=Examples(...)); the engine cuts
        # the missing ones from train. Then set `num_classes`, `vocab_size` and `max_length` in the YAML file. For files
        # to fetch, add a method `download`, which runs once per machine (`from train_smarter import fetch, unpack`).
        generator = random.Random(0)
        labels = [number % len(NAMES) for number in range(COUNT)]
        texts = [write_text(label, generator) for label in labels]
        return RawDataset(NAMES, train=Examples(texts, torch.tensor(labels)))


def write_text(label: int, generator: random.Random) -> str:
    """Return words in a random order, three of them about the subject."""
    words = generator.choices(SUBJECTS[label].split(), k=3) + generator.choices(COMMON.split(), k=WORDS - 3)
    generator.shuffle(words)
    return " ".join(words)
