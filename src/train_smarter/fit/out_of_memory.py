"""A training that is out of memory ends with the batch size to type."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning import Trainer

from train_smarter.errors import UserError
from train_smarter.failures import is_out_of_memory, message_of

MEASURE = "train find=batch_size measures what fits"


@contextmanager
def explaining_memory(data: Any, trainer: Trainer) -> Iterator[None]:
    """Raise a UserError that names a smaller batch where the block is out of memory."""
    try:
        yield
    except Exception as error:
        evaluating = any("evaluation_loop" in frame.filename for frame in traceback.extract_tb(error.__traceback__))
        size = getattr(data, "eval_batch_size" if evaluating else "batch_size", None)
        if not is_out_of_memory(error) or not isinstance(size, int):
            raise
        cure = f"data.eval_batch_size={max(1, size // 2)}" if evaluating else _halve(size, trainer)
        raise UserError(f"not enough memory: {message_of(error).splitlines()[0]}; type {cure}") from error


def _halve(size: int, trainer: Trainer) -> str:
    """A divisor of the batch size, so that steps can have as many examples."""
    if size < 2:
        return "a smaller model=..., or smaller examples: data.batch_size is 1 already"
    parts = next((count for count in (2, 3, 5, 7) if size % count == 0), 2)
    words = f"data.batch_size={size // parts} trainer.accumulate_grad_batches={parts * trainer.accumulate_grad_batches}"
    as_many = "as many" if size % parts == 0 else f"{size // parts * parts} instead of {size}"
    return f"{words}, for steps of {as_many} examples (an estimate; {MEASURE})"
