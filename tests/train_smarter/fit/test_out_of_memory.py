"""Out of memory: the message names a batch that may fit, with steps of as many examples."""

from types import SimpleNamespace
from typing import Any

import pytest

from train_smarter.errors import UserError
from train_smarter.fit.out_of_memory import explaining_memory

CUDA = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 8 GiB")


@pytest.mark.parametrize(
    ("size", "accumulated", "typed"),
    [
        (64, 1, "data.batch_size=32 trainer.accumulate_grad_batches=2, for steps of as many examples"),
        (64, 4, "data.batch_size=32 trainer.accumulate_grad_batches=8, for steps of as many examples"),
        (75, 1, "data.batch_size=25 trainer.accumulate_grad_batches=3, for steps of as many examples"),
        (11, 1, "data.batch_size=5 trainer.accumulate_grad_batches=2, for steps of 10 instead of 11 examples"),
        (1, 1, "a smaller model"),
    ],
)
def test_a_training_out_of_memory_ends_with_half_the_batch_and_twice_the_accumulation(
    size: int, accumulated: int, typed: str
) -> None:
    trainer: Any = SimpleNamespace(accumulate_grad_batches=accumulated)
    data = SimpleNamespace(batch_size=size, eval_batch_size=128)
    with pytest.raises(UserError) as caught, explaining_memory(data, trainer):
        raise CUDA
    first, _, rest = str(caught.value).partition("; type ")
    assert first == "not enough memory: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert rest.startswith(typed)


def test_a_validation_out_of_memory_ends_with_half_its_batch() -> None:
    loop: dict[str, Any] = {"error": CUDA}
    exec(compile("def run():\n    raise error", "loops/evaluation_loop.py", "exec"), loop)
    data, trainer = SimpleNamespace(batch_size=64, eval_batch_size=128), SimpleNamespace(accumulate_grad_batches=1)
    with pytest.raises(UserError, match=r"type data\.eval_batch_size=64$"), explaining_memory(data, trainer):  # type: ignore[arg-type]
        loop["run"]()


@pytest.mark.parametrize(("error", "data"), [(ValueError("x"), SimpleNamespace(batch_size=8)), (CUDA, object())])
def test_another_error_and_data_without_a_batch_size_are_left_to_others(error: Exception, data: Any) -> None:
    trainer: Any = SimpleNamespace(accumulate_grad_batches=1)
    with pytest.raises(type(error)) as caught, explaining_memory(data, trainer):
        raise error
    assert caught.value is error
