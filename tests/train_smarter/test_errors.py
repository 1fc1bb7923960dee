import errno
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from train_smarter.errors import UserError, did_you_mean, file_error

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("given", "hint"),
    [("cifar", "; did you mean 'cifar10'?"), ("minst", "; did you mean 'mnist'?"), ("imagenet-21k", ""), ("", "")],
)
def test_the_nearest_name_is_the_one_that_was_meant(given: str, hint: str) -> None:
    assert did_you_mean(given, ["cifar10", "mnist", "imdb"]) == hint


def test_without_any_name_there_is_no_nearest() -> None:
    assert did_you_mean("cifar", []) == ""


def test_a_mistake_is_its_message() -> None:
    assert str(UserError("one line")) == "one line"
    assert issubclass(UserError, Exception)


def test_a_full_disk_is_named_with_what_is_free_what_is_needed_and_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2_000_000, 1_500_000, 500_000))
    error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "gone" / "best.ckpt"))
    error.add_note("12.0 MB needed")
    assert str(file_error(error, then="train resume=a")) == (
        f"{tmp_path}/gone/best.ckpt cannot be written: the disk is full (0.5 MB free, 12.0 MB needed); "
        "free some space, then type train resume=a"
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.EROFS, "", "a"),
            "a cannot be written: the file system is read-only; choose another folder, paths.logs=..., or copy the run "
            "to one",
        ),
        (FileNotFoundError(errno.ENOENT, "", "a"), "a: no such file or folder; was it deleted or moved?"),
        (OSError(errno.EIO, "Input/output error", "a"), "a: Input/output error"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("no number"), "no number"),
    ],
)
def test_a_refusal_of_the_file_system_is_one_line(error: OSError, message: str) -> None:
    assert str(file_error(error)) == message


def test_the_file_may_be_named_by_the_caller() -> None:
    assert str(file_error(OSError(errno.EIO, "Input/output error"), path=Path("a"))) == "a: Input/output error"
