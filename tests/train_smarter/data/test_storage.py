"""Where examples are held: chosen by size, or refused with the way out."""

import os
from pathlib import Path

import pytest

from train_smarter.data import storage
from train_smarter.data.storage import choose_cache, gigabytes
from train_smarter.errors import UserError

GB = 10**9


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 8 GB of free memory, and 100 GB of disk."""
    monkeypatch.setattr(storage, "free_memory", lambda: 8 * GB)
    monkeypatch.setattr(storage, "free_disk", lambda _: 100 * GB)


def choose(
    folder: Path,
    size: int,
    given: str | None = None,
    *,
    missing: int | None = None,
    copies: int = 1,
    writable: bool = True,
) -> str:
    missing = size if missing is None else missing
    place = choose_cache(
        given, size=size, missing=missing, what="9 images", folder=folder, copies=copies, writable=writable
    )
    return place.cache


def test_small_data_are_held_in_memory_and_larger_ones_on_the_disk(tmp_path: Path) -> None:
    assert choose(tmp_path, GB // 2) == "memory"
    assert choose(tmp_path, 3 * GB) == "disk"  # they would fit, but each start would decode them again
    assert choose(tmp_path, 40 * GB) == "disk"


def test_data_that_would_fill_the_disk_stay_in_their_files(tmp_path: Path) -> None:
    assert choose(tmp_path, 60 * GB) == "none"


def test_a_cache_file_that_is_there_is_used(tmp_path: Path) -> None:
    assert choose(tmp_path, 1000, missing=0) == "disk"
    assert choose(tmp_path, 60 * GB, missing=0) == "disk"


def test_every_process_of_a_machine_counts(tmp_path: Path) -> None:
    assert choose(tmp_path, GB // 2, copies=4) == "disk"
    with pytest.raises(UserError, match=r"9 images take 3.0 GB in each of 4 processes, and 8.0 GB of memory are free"):
        choose(tmp_path, 3 * GB, "memory", copies=4)


def test_where_nothing_may_be_written_memory_or_the_files_themselves_are_used(tmp_path: Path) -> None:
    assert choose(tmp_path, 3 * GB, writable=False) == "memory"
    assert choose(tmp_path, 3 * GB, "disk", writable=False) == "memory"
    assert choose(tmp_path, 40 * GB, "disk", writable=False) == "none"
    assert choose(tmp_path, 40 * GB, "disk", missing=0, writable=False) == "disk"


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_may_not_be_written_is_not_chosen(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert choose(tmp_path / "cache", 3 * GB) == "memory"


def test_what_fits_nowhere_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"^data.cache=memory: 9 images take 9.0 GB, and 8.0 GB of memory are free: type data.cache=disk or "
        r"none, or a smaller data.size$",
    ):
        choose(tmp_path, 9 * GB, "memory")
    with pytest.raises(UserError, match=r"take 101.0 GB, and .* has 100.0 GB free: free some space, or type p"):
        choose(tmp_path, 101 * GB, "disk")
    assert choose(tmp_path, 101 * GB, "disk", missing=99 * GB) == "disk"  # the rest of it fits


def write_group(folder: Path, limit: str, used: int, cached: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(limit)
    (folder / "memory.current").write_text(str(used))
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


def test_the_limit_of_a_control_group_or_of_one_above_it_counts(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/job/step\n")
    write_group(tmp_path / "fs", "max", 0, 0)
    write_group(tmp_path / "fs" / "job", "1000", 700, 200)
    write_group(tmp_path / "fs" / "job" / "step", "900", 500, 0)
    # 1000 - 700 + 200 in the outer group, 900 - 500 in the inner one
    assert sorted(storage._free_in_cgroup(tmp_path / "fs", own)) == [400, 500]


def test_the_limit_of_an_older_control_group_counts(tmp_path: Path) -> None:
    own, group = tmp_path / "cgroup", tmp_path / "fs" / "memory" / "job"
    own.write_text("4:memory:/job\n3:cpu,cpuacct:/job\n")
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("1000")
    (group / "memory.usage_in_bytes").write_text("300")
    (group / "memory.stat").write_text("cache 50\ntotal_inactive_file 50\n")
    assert list(storage._free_in_cgroup(tmp_path / "fs", own)) == [750]


def test_without_control_groups_no_limit_is_known(tmp_path: Path) -> None:
    assert list(storage._free_in_cgroup(tmp_path, tmp_path / "none")) == []


def test_sizes_are_spelled_with_a_unit_that_suits_them() -> None:
    assert [gigabytes(size) for size in (230_400, 301_056_000, 15 * GB, 2 * 10**12, None)] == [
        "230 KB",
        "301.1 MB",
        "15.0 GB",
        "2.0 TB",
        "an unknown amount",
    ]
