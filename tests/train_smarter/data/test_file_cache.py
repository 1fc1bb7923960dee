"""The cache file: made once, continued after a break, shared, and never read when it is damaged."""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from train_smarter.data import decode_files, file_cache, row_file
from train_smarter.data.decode_files import run_in_chunks
from train_smarter.data.file_cache import FileCache, read_journal
from train_smarter.data.row_file import RowFile
from train_smarter.errors import UserError


class FirstBytes:
    """The first six bytes of a file, as an image of 1x2x3; counts its calls."""

    shape = (1, 2, 3)
    settings: Mapping[str, Any] = {"kind": "bytes", "version": 1}

    def __init__(self) -> None:
        self.calls: list[str] = []

    def check(self, file: Path) -> None:
        self(file)

    def __call__(self, file: Path) -> NDArray[np.uint8]:
        self.calls.append(file.name)
        content = file.read_bytes()
        if len(content) < 6:
            raise ValueError("too short")
        return np.frombuffer(content[:6], dtype=np.uint8).reshape(1, 2, 3)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Ten files; file n holds six bytes of n."""
    made = [tmp_path / "files" / f"{number}.bin" for number in range(10)]
    made[0].parent.mkdir()
    for number, file in enumerate(made):
        file.write_bytes(bytes([number] * 6))
    return made


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three files are noted together."""
    monkeypatch.setattr(file_cache, "CHUNK_BYTES", 18)
    monkeypatch.setattr(file_cache, "LEAST_FILES", 1)


def cache_of(files: list[Path], decoder: FirstBytes | None = None) -> FileCache:
    return FileCache.of(files[0].parents[1] / "cache", files, root=files[0].parent, decoder=decoder or FirstBytes())


def test_the_rows_are_those_of_the_files(files: list[Path]) -> None:
    cache = cache_of(files)
    assert (cache.ready, cache.missing, cache.size) == (False, 60, 60)
    cache.make()
    assert (cache.ready, cache.missing) == (True, 0)
    rows = cache.open().rows
    assert rows.shape == (10, 3, 1, 2)
    for index in ([4, 5, 6, 1], [9], [0, 0, 3]):  # consecutive ones are read by one call
        assert rows.read(torch.tensor(index))[:, 0, 0, 0].tolist() == index
        assert rows.read(torch.tensor(index))[:, 2, 0, 1].tolist() == index
    assert rows.read(torch.tensor([2])).is_contiguous(memory_format=torch.channels_last)
    assert sorted(file.suffix for file in cache.folder.iterdir()) == [".json", ".lock", ".rows"]


def test_a_cache_is_made_once(files: list[Path]) -> None:
    cache_of(files).make()
    again = FirstBytes()
    cache_of(files, again).make()
    assert again.calls == []


@pytest.mark.parametrize("change", ["content", "time", "name", "settings", "fewer"])
def test_another_content_or_setting_is_another_cache(
    files: list[Path], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache_of(files).stem
    if change == "content":
        files[3].write_bytes(b"1234567")
        os.utime(files[3], ns=(1, files[2].stat().st_mtime_ns))
    elif change == "time":
        os.utime(files[3], ns=(1, 5))
    elif change == "name":
        files[3] = files[3].rename(files[3].with_name("x.bin"))
    elif change == "settings":
        monkeypatch.setattr(FirstBytes, "settings", {"kind": "bytes", "version": 2})
    else:
        files.pop()
    assert cache_of(files).stem != before


def test_a_folder_that_has_moved_has_the_same_cache(files: list[Path]) -> None:
    before = cache_of(files).stem
    moved = files[0].parent.rename(files[0].parents[1] / "elsewhere")
    assert cache_of([moved / file.name for file in files]).stem == before


def test_broken_files_are_remembered(files: list[Path]) -> None:
    files[3].write_bytes(b"")
    files[9].write_bytes(b"12")
    cache_of(files).make()
    decoded = cache_of(files).open()
    assert decoded.broken == {3: "too short", 9: "too short"}
    assert decoded.rows.read(torch.tensor([2, 4]))[:, 0, 0, 0].tolist() == [2, 4]


class StoppedError(BaseException):
    """As if the process had been killed."""


def break_off(files: list[Path], monkeypatch: pytest.MonkeyPatch, *, after: int) -> FileCache:
    """A cache of which so many chunks were made."""

    def stopping(*given: Any, **named: Any) -> Any:
        for number, done in enumerate(run_in_chunks(*given, **named)):
            if number == after:
                raise StoppedError
            yield done

    cache = cache_of(files)
    with monkeypatch.context() as patch:
        patch.setattr(file_cache, "run_in_chunks", stopping)
        with pytest.raises(StoppedError):
            cache.make()
    return cache


def test_a_break_costs_only_what_was_not_noted(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files[1].write_bytes(b"")
    cache = break_off(files, monkeypatch, after=2)  # files 0 to 5
    assert not cache.ready
    again = FirstBytes()
    with caplog.at_level(logging.INFO):
        cache_of(files, again).make()
    assert sorted(again.calls) == ["6.bin", "7.bin", "8.bin", "9.bin"]
    assert "; 6 are done already" in caplog.text
    decoded = cache_of(files).open()
    assert decoded.broken == {1: "too short"}
    assert decoded.rows.read()[[0, *range(2, 10)], 0, 0, 0].tolist() == [0, *range(2, 10)]


def test_a_torn_line_of_the_journal_counts_as_none(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    assert read_journal(journal) == (0, {}, 0)
    whole = '{"done": 3, "broken": {"1": "why"}}\n'
    for torn in ('{"done": 6, "bro', '{"done": 6, "broken": {}}'):
        journal.write_text(whole + torn)
        assert read_journal(journal) == (3, {1: "why"}, len(whole))


def test_a_second_break_repeats_nothing_that_was_noted_after_a_torn_line(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = break_off(files, monkeypatch, after=1)  # files 0 to 2
    with cache.path("journal").open("a") as journal:
        journal.write('{"done": 6, "bro')
    break_off(files, monkeypatch, after=1)  # files 3 to 5
    again = FirstBytes()
    cache_of(files, again).make()
    assert sorted(again.calls) == ["6.bin", "7.bin", "8.bin", "9.bin"]


def test_a_journal_whose_rows_were_deleted_counts_as_none(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = break_off(files, monkeypatch, after=2)
    cache.path("part").unlink()
    break_off(files, monkeypatch, after=0)  # the file is there again, and holds nothing
    cache.make()
    assert cache.open().rows.read()[:, 0, 0, 0].tolist() == list(range(10))


def test_a_damaged_file_is_made_again(files: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    cache = cache_of(files)
    cache.make()
    os.truncate(cache.path("rows"), 59)
    assert not cache.ready
    cache.make()
    assert "is damaged, and is made again" in caplog.text
    assert cache.open().rows.read()[:, 0, 0, 0].tolist() == list(range(10))


@pytest.mark.parametrize("content", ['{"brok', "[]", '{"broken": [1]}'])
def test_a_damaged_index_is_named_with_the_way_out(files: list[Path], content: str) -> None:
    cache = cache_of(files)
    cache.make()
    cache.path("json").write_text(content)
    with pytest.raises(UserError, match=r"\.json .*; to do without it, move it away: mv "):
        cache.open()
    cache.path("json").rename(cache.path("json.damaged"))
    cache.make()
    assert cache.open().broken == {}


def test_a_file_of_another_size_is_not_opened(files: list[Path]) -> None:
    cache = cache_of(files)
    cache.make()
    os.truncate(cache.path("rows"), 59)
    with pytest.raises(UserError, match=r"has 59 bytes instead of 60: delete it, and it is made again"):
        cache.open()


@pytest.mark.parametrize("plain", [False, True])
def test_a_file_that_shrinks_while_it_is_read_ends_in_a_message(
    files: list[Path], plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_file, "HAS_PREADV", not plain)
    cache = cache_of(files)
    cache.make()
    rows = cache.open().rows
    assert rows.read(torch.tensor([8, 1]))[:, 0, 0, 0].tolist() == [8, 1]
    os.truncate(cache.path("rows"), 50)
    with pytest.raises(UserError, match="ends too early: it was changed"):
        rows.read(torch.tensor([8]))


def test_what_is_read_ahead_is_not_read_twice(files: list[Path]) -> None:
    cache = cache_of(files)
    cache.make()
    rows = cache.open().rows
    rows.prefetch(torch.tensor([3, 1]))
    assert rows.read(torch.tensor([3, 1]))[:, 0, 0, 0].tolist() == [3, 1]


def test_rows_reach_another_process_by_the_name_of_their_file(files: list[Path]) -> None:
    cache = cache_of(files)
    cache.make()
    piece = cache.open().rows.take(torch.tensor([7, 2]))
    assert pickle.loads(pickle.dumps(piece)).read()[:, 0, 0, 0].tolist() == [7, 2]


def test_a_full_disk_is_named_and_the_next_start_continues(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = file_cache._write_at

    def full(descriptor: int, content: bytes, offset: int) -> None:
        if offset >= 36:
            raise OSError(28, "No space left on device")
        real(descriptor, content, offset)

    cache = cache_of(files)
    with monkeypatch.context() as patch:
        patch.setattr(file_cache, "_write_at", full)
        with pytest.raises(UserError, match=r"\.part cannot be written: the disk is full .*needed.*; free some space"):
            cache.make()
    again = FirstBytes()
    cache_of(files, again).make()
    assert len(again.calls) <= 7
    assert cache.open().rows.read()[:, 0, 0, 0].tolist() == list(range(10))


def test_a_folder_that_cannot_be_written_is_named_with_the_ways_out(files: list[Path]) -> None:
    cache = cache_of(files)
    cache.folder.write_text("a file")
    with pytest.raises(UserError, match=r"cache cannot be written: .*; type paths.data=\.\.\. of another"):
        cache.make()


def test_older_caches_are_named_with_their_size_and_the_way_to_delete_them(
    files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    old = cache_of(files)
    old.make()
    files[0].write_bytes(bytes(7))
    with caplog.at_level(logging.INFO):
        cache_of(files).make()
    assert (
        f"1 cache files of other data or settings take 0 KB; to delete one that you no longer need: rm {old.folder}/"
        in (caplog.text)
    )
    assert f"{old.stem}.*" in caplog.text


def test_the_index_says_what_the_rows_are(files: list[Path]) -> None:
    cache = cache_of(files)
    cache.make()
    index = json.loads(cache.path("json").read_text())
    assert (index["files"], index["root"], index["settings"]) == (10, str(files[0].parent), FirstBytes.settings)


def test_files_are_run_through_in_order_of_their_chunks() -> None:
    seen: list[int] = []

    def work(place: int) -> None:
        seen.append(place)
        if place == 5:
            raise ValueError("five")

    chunks = list(run_in_chunks(work, range(2, 9), chunk=3, title="x"))
    assert chunks == [(5, {}), (8, {5: "five"}), (9, {})]
    assert sorted(seen) == list(range(2, 9))


def test_at_least_one_core_is_usable() -> None:
    assert 1 <= decode_files.usable_cpus() <= (os.cpu_count() or 1)


MAKE = """
import logging, sys, time
from pathlib import Path
from tests.train_smarter.data.test_file_cache import FirstBytes, FileCache
from train_smarter.data import file_cache
logging.basicConfig(level=logging.INFO, format="%(message)s")
file_cache.CHUNK_BYTES, file_cache.LEAST_FILES = 6, 1
hangs, folder = sys.argv[1] == "hangs", Path(sys.argv[2])
class Hanging(FirstBytes):
    def __call__(self, file):
        if hangs and file.name > "4":
            time.sleep(1000)
        return super().__call__(file)
files = sorted(folder.iterdir())
FileCache.of(folder.parent / "cache", files, root=folder, decoder=Hanging()).make()
"""


@pytest.mark.slow
def test_a_killed_process_is_succeeded_by_the_one_that_waits_for_it(files: list[Path]) -> None:
    command = [sys.executable, "-c", MAKE]
    folder = str(files[0].parent)
    cache = cache_of(files)
    with subprocess.Popen([*command, "hangs", folder], stderr=subprocess.PIPE) as first:
        while not read_journal(cache.path("journal"))[0]:
            assert first.poll() is None
            time.sleep(0.01)
        with subprocess.Popen([*command, "works", folder], stderr=subprocess.PIPE, text=True) as second:
            assert second.stderr is not None
            assert "another process makes" in second.stderr.readline()
            first.send_signal(signal.SIGKILL)
            log = second.stderr.read()
    assert second.returncode == 0
    assert "are done already" in log
    assert cache.open().rows.read()[:, 0, 0, 0].tolist() == list(range(10))


def test_an_open_file_is_closed_with_the_last_rows_of_it(files: list[Path]) -> None:
    cache = cache_of(files)
    cache.make()
    file = RowFile(cache.path("rows"), count=10, shape=(1, 2, 3))
    descriptor = file.descriptor
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
