"""Texts as token ids of different lengths, in one tensor, padded a batch at a time."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from train_smarter.data.rows import Rows

BUCKET = 50  # batches whose examples are sorted by length together


class TokenRows(Rows):
    """N texts. A batch is {"input_ids": (n, T), "attention_mask": (n, T)}, int64, T the longest of its texts.

    Texts are padded on the right; the mask is 1 at a token and 0 at padding.

    Args:
        flat: the ids of all texts one after the other, integers.
        offsets: (N + 1,) int64; text i is flat[offsets[i]:offsets[i + 1]].
        pad_id: id of padding.
        index: see `Rows`; None: all texts.
    """

    def __init__(self, flat: Tensor, offsets: Tensor, pad_id: int, index: Tensor | None = None) -> None:
        index = torch.arange(len(offsets) - 1) if index is None else index
        super().__init__((int(offsets.diff().max()) if len(offsets) > 1 else 0,), torch.long, index)
        self.flat, self.offsets, self.pad_id = flat, offsets, pad_id

    @classmethod
    def from_ids(cls, texts: Iterable[Sequence[int]], pad_id: int, *, dtype: torch.dtype = torch.int32) -> "TokenRows":
        """The rows of the ids of N texts; an empty text is one token of padding, since attention needs one."""
        pieces = [torch.tensor(ids or [pad_id], dtype=dtype) for ids in texts]
        offsets = torch.tensor([0, *map(len, pieces)], dtype=torch.long).cumsum(0)
        return cls(torch.cat(pieces) if pieces else torch.zeros(0, dtype=dtype), offsets, pad_id)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each text, (N,) int64."""
        return self.offsets.diff()[self.index]

    @property
    def nbytes(self) -> int:
        return self.flat.itemsize * int(self.lengths.sum())

    def read_at(self, places: Tensor, *, epoch: int) -> dict[str, Tensor]:  # noqa: ARG002
        start, lengths = self.offsets[places], self.offsets.diff()[places]
        position = torch.arange(int(lengths.max()))  # (T,)
        inside = position < lengths[:, None]  # (n, T)
        ids = self.flat[(start[:, None] + position).clamp_(max=len(self.flat) - 1)]
        return {"input_ids": ids.long().masked_fill_(~inside, self.pad_id), "attention_mask": inside.long()}


def is_tokens(inputs: Any) -> bool:
    """Whether inputs are a batch, or an example, of `TokenRows`."""
    return isinstance(inputs, Mapping) and "input_ids" in inputs


def lengths_of(inputs: Any) -> Tensor | None:
    """The length of each example, where examples differ in length."""
    return inputs.lengths if isinstance(inputs, TokenRows) else None


def bucket_by_length(order: Tensor, lengths: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """An order (n,) of examples in which the `size` examples of a batch are of near lengths.

    The order is cut into pieces of `BUCKET` batches. Each piece is sorted by length and cut into batches, and the
    batches of all pieces are shuffled; a smaller last batch stays last. So every example comes once, and which
    examples share a batch changes as the order does.

    Args:
        lengths: (N,) of all examples.
        size: of a batch, over all processes.
        generator: of the epoch.
    """
    rest = len(order) % size
    whole = order[: len(order) - rest]
    pieces = [piece[lengths[piece].argsort(stable=True)] for piece in whole.split(BUCKET * size)]
    if not pieces:
        return order
    batches = torch.cat(pieces).view(-1, size)
    shuffled = batches[torch.randperm(len(batches), generator=generator)]
    return torch.cat([shuffled.flatten(), order[len(order) - rest :]])
