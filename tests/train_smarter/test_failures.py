import errno
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hydra.errors import InstantiationException
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException

from train_smarter import failures
from train_smarter.errors import UserError

OWN = """
import torch
def forward(inputs):
    return torch.nn.Linear(3, 2)(inputs)
def read(path):
    return open(path)
class Broken:
    def __init__(self, width):
        self.layer = torch.nn.Linear(width, 2)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's, in a file outside of the engine and of every installed package."""
    (tmp_path / "own_model.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_model", raising=False)
    import own_model  # type: ignore[import-not-found]

    module: ModuleType = own_model
    return module


@pytest.fixture(autouse=True)
def _tests_are_no_users_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback of an error begins in the test; a command's begins in the engine."""
    is_installed = failures._is_installed
    monkeypatch.setattr(failures, "_is_installed", lambda file: file == __file__ or is_installed(file))


def raised(act: Callable[[], object]) -> Exception:
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_a_librarys_refusal_is_all_of_its_message_and_what_to_type() -> None:
    error = raised(lambda: Trainer(accelerator="gpu0", logger=False))
    assert str(failures.as_user_error(error)).startswith("You selected an invalid accelerator name")
    assert str(failures.as_user_error(error)).endswith("; trainer=auto takes what this machine has")


def test_a_hint_is_given_only_where_it_applies() -> None:
    limit = raised(lambda: Trainer(accelerator="cpu", limit_train_batches=-1, logger=False))
    assert isinstance(limit, MisconfigurationException)
    assert str(failures.as_user_error(limit)) == str(limit)


def test_every_line_of_a_reason_is_shown() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    error = raised(lambda: model.load_state_dict({"0.weight": torch.zeros(3, 2), "0.bias": torch.zeros(3)}))
    message = str(failures.as_user_error(error))
    assert "size mismatch for 0.weight" in message
    assert "size mismatch for 0.bias" in message
    assert message.endswith("or type evaluate run=<its run>")


def test_a_fault_in_the_users_own_code_is_its_lines_and_a_summary_with_file_and_line(own: ModuleType) -> None:
    error = raised(lambda: own.forward(torch.zeros(1, 7)))
    assert failures.as_user_error(error) is None
    shown = failures.own_traceback(error).splitlines()
    assert [line.split(", ")[1] for line in shown if line.startswith("  File")] == ["line 4"]
    assert shown[-1] == f"{own.__file__}:4: RuntimeError in forward: {error}"


def test_a_value_that_a_class_refuses_is_named_with_its_key_and_the_line_in_its_own_code(own: ModuleType) -> None:
    error = raised(lambda: own.Broken(-3))
    answer = failures.explain_construction(error, "model", "own_model.Broken")
    assert isinstance(answer, UserError)
    assert str(answer).startswith("model: Trying to create tensor with negative dimension -3")
    assert str(answer).endswith(f"(in own_model.Broken, {own.__file__}:9)")


def test_a_mistake_inside_hydras_own_error_is_the_mistake() -> None:
    outer = InstantiationException("Error in call to target")
    outer.__cause__ = UserError("give a number")
    assert failures.as_user_error(outer) is outer.__cause__
    assert failures.explain_construction(outer, "data", "Blobs") is outer.__cause__


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory: you tried to allocate"
        ),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 800 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    ],
    ids=["python", "enforce", "allocator", "cuda", "mps"],
)
def test_too_little_memory_is_one_line_whoevers_code_wanted_it(error: Exception) -> None:
    message = str(failures.as_user_error(error))
    assert message.startswith("not enough memory: ")
    assert "data.batch_size" in message
    assert len(message.splitlines()) == 1


def test_a_file_that_the_users_own_code_cannot_open_is_named(own: ModuleType, tmp_path: Path) -> None:
    error = raised(lambda: own.read(tmp_path / "none.csv"))
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOENT
    assert f"{tmp_path}/none.csv" in str(failures.as_user_error(error))


def test_a_fault_of_the_engine_is_no_mistake_of_the_user() -> None:
    error = raised(lambda: failures.own_traceback(ValueError("raised nowhere")))  # an index error in the engine
    assert failures.as_user_error(error) is None
    assert failures.own_frames(error) == []
