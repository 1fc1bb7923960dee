"""The project's `.env`."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import train_smarter
from train_smarter import UserError, paths
from train_smarter.run.environment import load_env_file

Typed = Callable[..., tuple[int, str]]


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's `.env`, whose variables are removed at the end."""
    for name in ("SAMPLE_ONE", "SAMPLE_TWO"):
        monkeypatch.setenv(name, "")  # restores it
        monkeypatch.delenv(name)
    monkeypatch.setattr(paths, "ENV_FILE", tmp_path / ".env")
    return tmp_path / ".env"


def test_variables_are_set_and_those_that_are_set_already_win(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("# keys\nSAMPLE_ONE='a b'\nexport SAMPLE_TWO=from-file\n")
    monkeypatch.setenv("SAMPLE_TWO", "typed")
    load_env_file()
    assert (os.environ["SAMPLE_ONE"], os.environ["SAMPLE_TWO"]) == ("a b", "typed")


def test_commands_and_python_read_it_before_the_config_is_composed(env_file: Path, typed: Typed) -> None:
    env_file.write_text("SAMPLE_ONE=val/loss\n")
    word = "monitor=${oc.env:SAMPLE_ONE}"
    code, told = typed(word, "--cfg", "job", "--resolve")
    assert (code, "monitor: val/loss" in told) == (0, True)
    del os.environ["SAMPLE_ONE"]
    assert train_smarter.compose([word]).monitor == "val/loss"


def test_a_file_that_cannot_be_read_is_one_message_and_a_folder_of_that_name_is_none(env_file: Path) -> None:
    env_file.write_bytes(b"SAMPLE_ONE=\xff\n")
    with pytest.raises(UserError, match=r"\.env cannot be read: .*; it has a NAME=value a line, in UTF-8"):
        load_env_file()
    env_file.unlink()
    env_file.mkdir()
    load_env_file()
    assert "SAMPLE_ONE" not in os.environ


def test_outside_of_a_checkout_the_current_folder_may_be_a_strangers_and_its_file_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample_root: Path
) -> None:
    (tmp_path / ".env").write_text("SAMPLE_ONE=theirs\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAMPLE_ONE", raising=False)
    monkeypatch.setattr(paths, "ENGINE", tmp_path / "site-packages" / "train_smarter")  # installed from a wheel
    try:
        paths.use()
        assert tmp_path == paths.ROOT
        load_env_file()
    finally:
        monkeypatch.undo()
        paths.use(sample_root)
    assert "SAMPLE_ONE" not in os.environ
    assert sample_root / ".env" == paths.ENV_FILE
