"""Generated film reviews whose sentiment hangs on word order alone; they need no network."""

from itertools import product
from typing import Any

import numpy as np
import torch

from train_smarter import Examples, RawDataset, TextData

GOOD = "good great brilliant charming clever delightful fine funny gripping lovely moving superb touching warm witty"
BAD = "bad boring clumsy dull dreary feeble flat lame poor shallow silly stale tedious terrible weak"
NOUNS = "film movie story plot script acting music ending dialogue camera work"
# {x} decides the sentiment, {y} is the opposite word.
PATTERNS = (
    "the {noun} was not {y} , it was {x}",
    "the {noun} was {x} , it was not {y}",
    "the {noun} was {x} and not {y} at all",
    "the {noun} was far from {y} , just {x}",
    "the {noun} was just {x} , far from {y}",
    "i expected a {y} {noun} and got a {x} one",
    "i got a {x} {noun} where i expected a {y} one",
    "what began as a {y} {noun} ended as a {x} one",
    "the {noun} ended {x} though it began {y}",
    "the critics called the {noun} {y} , but i found it {x}",
    "i found the {noun} {x} , but the critics called it {y}",
    "the {noun} used to be {y} , now it is {x}",
)
SEED = 0  # of the data set itself; `seed` and `split_seed` change nothing about it


class Phrases(TextData):
    """Short reviews in pairs: the same words, the same number of times, in another order, with the other sentiment.

    "the plot was not bad , it was good" stands beside "the plot was not good , it was bad", and both in the same
    split. So whatever is predicted from a bag of words is right on exactly one of the two.

    Args:
        pairs: how many of the 29,700 possible pairs there are; 80% train, 10% validation, 10% test.
    """

    def __init__(self, *, pairs: int = 2000, **text: Any) -> None:
        super().__init__(**text)
        self.pairs = pairs

    def read(self) -> RawDataset:
        possible = list(product(PATTERNS, NOUNS.split(), GOOD.split(), BAD.split()))
        chosen = np.random.default_rng(SEED).permutation(len(possible))[: self.pairs]
        train, val, test = np.split(chosen, [round(0.8 * len(chosen)), round(0.9 * len(chosen))])
        pieces = [self._write_phrases([possible[i] for i in piece]) for piece in (train, val, test)]
        return RawDataset(("negative", "positive"), train=pieces[0], val=pieces[1], test=pieces[2])

    @staticmethod
    def _write_phrases(choices: list[tuple[str, str, str, str]]) -> Examples:
        """Both reviews of every choice of pattern, noun, good and bad word: the negative one, then the positive."""
        texts = [
            pattern.format(noun=noun, x=x, y=y)
            for pattern, noun, good, bad in choices
            for x, y in ((bad, good), (good, bad))
        ]
        return Examples(texts, torch.tensor([0, 1] * len(choices)))
