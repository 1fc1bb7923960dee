import os
from pathlib import Path

import pytest

from train_smarter.errors import UserError
from train_smarter.trust import check_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    (made / "checkpoints").mkdir(parents=True)
    (made / "checkpoints" / "best.ckpt").touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    return made


def test_a_plain_folder_is_accepted_and_so_are_links_within_it(folder: Path) -> None:
    (folder / "checkpoints" / "last.ckpt").symlink_to("best.ckpt")  # as ModelCheckpoint makes them
    (folder / "absolute").symlink_to(folder / "checkpoints")
    (folder / "to be").symlink_to("not/there/yet")
    check_folder(folder)


def test_the_folder_itself_may_be_reached_by_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    check_folder(tmp_path / "link")


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("x", "../outside/file"),
        ("x", "../outside"),
        ("checkpoints/x", "../../outside/not there yet"),
        (".hidden", "/etc/passwd"),
        ("x", "checkpoints/../../outside"),
        ("x", "x"),
        ("x", "."),  # in a circle: a file in it is also one of the folder
        ("checkpoints/x", ".."),
    ],
)
def test_a_link_that_leads_out_or_nowhere_is_refused(folder: Path, place: str, target: str) -> None:
    (folder / place).symlink_to(target)
    with pytest.raises(UserError, match=f"{place} is a link that leads out of"):
        check_folder(folder)


def test_a_link_to_a_link_that_leads_out_is_refused(folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("../outside")
    with pytest.raises(UserError, match="is a link that leads out"):
        check_folder(folder)


def test_a_file_that_is_also_in_another_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    os.link(tmp_path / "outside" / "file", folder / "train.log")
    with pytest.raises(UserError, match=r"train\.log is a hard link to a file outside of"):
        check_folder(folder)


def test_a_file_that_the_folder_has_twice_is_accepted(folder: Path) -> None:
    os.link(folder / "checkpoints" / "best.ckpt", folder / "checkpoints" / "copy.ckpt")
    check_folder(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "results.json")
    with pytest.raises(UserError, match="is not a regular file"):
        check_folder(folder)
