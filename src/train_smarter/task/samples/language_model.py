"""Text that a language model continues."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from train_smarter.task.samples.base import Samples, spread
from train_smarter.task.samples.views import View, text_of, texts

PROMPTS = 4
MAX_PROMPT = 32  # tokens
LENGTH = 200  # tokens that are sampled
TEMPERATURE = 0.8


class LanguageSamples(Samples):
    """Beginnings of a few sequences, from which the network continues. Content of an example: tokens (T,)."""

    def add(self, batch: Any, outputs: Any, indices: Sequence[int]) -> None:  # noqa: ARG002
        self.keep("prompts", spread(indices), (batch[0],), indices, count=min(PROMPTS, self.count))

    def views(self, data: Any, network: Any) -> list[View]:
        group = self.groups.get("prompts", [])
        if not group:
            return []
        tokens = torch.stack([kept.content[0] for kept in group])  # (B, T)
        length = max(1, min(MAX_PROMPT, tokens.shape[1] // 2))
        # Of a network that takes no more tokens than it was trained on, the last ones.
        context = tokens.shape[1]
        sampled = self._generate(lambda given: network(given[:, -context:]), tokens[:, :length].to(_device(network)))
        items = [(_text(data, row[:length]), _text(data, row[length:])) for row in sampled]
        return [texts(f"sampled at temperature {TEMPERATURE}: a prompt from the split, and how it continues", items)]

    def _generate(self, network: Any, prompt: Tensor) -> Tensor:
        generator = torch.Generator(prompt.device).manual_seed(0)  # the random state of the run stays as it is
        with torch.inference_mode():
            sampled: Tensor = self.task.generate(network, prompt, LENGTH, temperature=TEMPERATURE, generator=generator)
        return sampled.cpu()


def _device(network: Any) -> Any:
    return getattr(network, "device", "cpu")


def _text(data: Any, tokens: Tensor) -> str:
    found = text_of(data, tokens)
    return " ".join(map(str, tokens.tolist())) if found is None else found
