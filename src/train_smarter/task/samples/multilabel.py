"""The examples with the most wrong labels."""

from collections.abc import Sequence
from typing import Any

from train_smarter.task.samples.base import Kept, Samples
from train_smarter.task.samples.views import View, images, input_entry, names_of, table, texts


class MultilabelSamples(Samples):
    """Examples with the most wrong labels; of equal ones, the surest.

    Content of an example: input, true labels and probabilities (K,).
    """

    def add(self, batch: Any, outputs: Any, indices: Sequence[int]) -> None:
        probabilities, true = outputs.float().sigmoid(), self.task.targets(batch).bool()  # (B, K)
        wrong = (probabilities > self.task.threshold) != true
        sure = (probabilities - self.task.threshold).abs().where(wrong, 0).mean(1)  # below 1
        score = (wrong.sum(1) + sure).masked_fill(~wrong.any(1), -float("inf"))
        self.keep("mistakes", score, (batch[0], true, probabilities), indices, count=self.count)

    def views(self, data: Any, network: Any) -> list[View]:  # noqa: ARG002
        group, title = self.groups.get("mistakes", []), "most wrong labels"
        if not group:
            return []
        said = [self._labels(kept, names_of(data, self.task.num_labels)) for kept in group]
        inputs = [input_entry(kept.content[0], data) for kept in group]
        captions = [f"predicted: {predicted}; true: {true}" for true, predicted in said]
        if all("image" in entry for entry in inputs):
            return [images(title, [([entry["image"]], text) for entry, text in zip(inputs, captions, strict=True)])]
        if all("text" in entry for entry in inputs):
            return [texts(title, [(text, entry["text"]) for entry, text in zip(inputs, captions, strict=True)])]
        rows = [[kept.index, *labels] for kept, labels in zip(group, said, strict=True)]
        return [table(title, ["example", "true", "predicted"], rows)]

    def _labels(self, kept: Kept, names: Sequence[str]) -> tuple[str, str]:
        """True and predicted labels, separated by commas."""
        _, true, probabilities = kept.content
        choices = (true.tolist(), (probabilities > self.task.threshold).tolist())
        true_text, predicted_text = (
            ", ".join(name for name, on in zip(names, row, strict=True) if on) or "none" for row in choices
        )
        return true_text, predicted_text
