"""The surest mistakes of a classification, and the least sure hits."""

from collections.abc import Sequence
from typing import Any, ClassVar

from train_smarter.errors import UserError
from train_smarter.task.samples.base import Kept, Samples
from train_smarter.task.samples.views import input_entry, names_of


class ClassificationSamples(Samples):
    """Half of the examples are mistakes, the surest first, half of them right, the least sure first.

    Where one kind is short, the other fills up. Content of an example: input, true class, predicted class,
    probability of the predicted class.
    """

    file: ClassVar[str] = "examples.json"

    def add(self, batch: Any, outputs: Any, indices: Sequence[int]) -> None:
        if why := self.task.why_unusable(outputs, batch):
            raise UserError(why)
        (inputs, labels), predicted = batch, self.task.predict_classes(outputs)
        probability = self.task.probabilities(outputs.float()).gather(1, predicted[:, None])[:, 0]  # (B,)
        right = predicted == labels
        content = (inputs, labels, predicted, probability)
        never = -float("inf")
        self.keep("mistakes", probability.masked_fill(right, never), content, indices, count=self.count)
        self.keep("hits", (-probability).masked_fill(~right, never), content, indices, count=self.count)

    def select(self) -> list[Kept]:
        """`count` of them: mistakes and hits half and half, as far as there are enough of both."""
        wrong, right = (self.groups.get(name, []) for name in ("mistakes", "hits"))
        mistakes = min(len(wrong), max(self.count // 2, self.count - len(right)))
        return wrong[:mistakes] + right[: self.count - mistakes]

    def content(self, split: str, data: Any, network: Any) -> Any:  # noqa: ARG002 (generates nothing)
        """Entries of examples.json."""
        names = names_of(data, self.task.num_classes)
        return [{"split": split, **sample_entry(kept, names, data)} for kept in self.select()]


def sample_entry(kept: Kept, names: Sequence[str], data: Any) -> dict[str, Any]:
    """What the model made of an input, and the input as an image or a text, if it is one."""
    inputs, true, predicted, probability = kept.content
    entry = {"true": names[int(true)], "predicted": names[int(predicted)], "probability": float(probability)}
    entry["right"] = int(true) == int(predicted)
    return entry | input_entry(inputs, data)
