"""Random numbers of a batch that several processes share: each example's are those that one process would draw."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

FACTORIES: tuple[Callable[..., Tensor], ...] = (torch.rand, torch.randn, torch.randint)


class SharedDraws(TorchFunctionMode):
    """Within it, `torch.rand`, `randn` and `randint` with `generator` draw for the whole batch, and keep this share.

    Draws whose first dimension is not that of the share are the same in every process. Other random functions draw
    from `generator` itself, which each process seeds in its own way.

    Args:
        generator: what the caller of those functions passes.
        seed: the same in every process.
        rows: examples in this process's share of the batch.
        total: examples in the whole batch.
        rank, world: the share is every `world`-th example, from number `rank`.
    """

    def __init__(self, generator: torch.Generator, *, seed: int, rows: int, total: int, rank: int, world: int) -> None:
        super().__init__()
        self.generator, self.rows, self.total, self.share = generator, rows, total, slice(rank, None, world)
        self.shared = torch.Generator(generator.device).manual_seed(seed)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func not in FACTORIES or named.get("generator") is not self.generator:
            return func(*args, **named)
        bounds, size = _split_size(func, args, named)
        named["generator"] = self.shared
        if size[0] != self.rows:
            return func(*bounds, size, **named)
        return func(*bounds, (self.total, *size[1:]), **named)[self.share]


def _split_size(func: Callable[..., Any], args: Any, named: dict[str, Any]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """What comes before the size, the bounds of `randint`, and the size."""
    if "size" in named:
        return args, tuple(named.pop("size"))
    if func is torch.randint:
        return tuple(args[:-1]), tuple(args[-1])
    return (), tuple(args if isinstance(args[0], int) else args[0])
