"""Sizes are doubled until one does not fit, then bisected; the smallest of the fast ones is chosen."""

from collections.abc import Callable

import pytest

from train_smarter.fit import batch_size_finder
from train_smarter.fit.batch_size_finder import Measured, choose_size, has_room, search_sizes


def fits_up_to(most: int) -> Callable[[int], Measured]:
    return lambda size: Measured(size, 100.0 if size <= most else None, size)


@pytest.mark.parametrize(
    ("most", "sizes"),
    [
        (100, [8, 16, 32, 64, 96, 104, 112, 128]),  # 128 does not fit; 96 does, 112 and 104 do not
        (9, [8, 9, 10, 12, 16]),
        (1, [1, 2, 4, 8]),
        (0, [1, 2, 4, 8]),
        (10**6, [8, 16, 32, 64, 128, 256, 300]),
    ],
)
def test_the_size_doubles_until_it_does_not_fit_and_is_bisected(most: int, sizes: list[int]) -> None:
    found = search_sizes(fits_up_to(most), smallest=8, largest=300, room=lambda _: True)
    assert [one.size for one in found] == sizes
    assert [one.size for one in found if one.speed is None] == [size for size in sizes if size > most]


def test_the_search_ends_where_there_is_no_room() -> None:
    found = search_sizes(fits_up_to(999), smallest=2, largest=999, room=lambda found: found[-1].size < 8)
    assert [one.size for one in found] == [2, 4, 8]


def test_on_a_cpu_there_is_no_room_where_the_next_size_would_need_more_memory_than_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [Measured(8, 1.0, 1000), Measured(16, 2.0, 1300)]  # the next one adds 600
    monkeypatch.setattr(batch_size_finder, "free_memory", lambda: 1300)
    assert has_room(found)
    monkeypatch.setattr(batch_size_finder, "free_memory", lambda: 1100)  # less than twice that
    assert not has_room(found)


def test_on_a_cpu_there_is_no_need_for_a_size_after_three_that_were_no_faster() -> None:
    speeds = [50.0, 100.0, 90.0, 104.0]
    found = [Measured(2**place, speed, None) for place, speed in enumerate(speeds)]
    assert has_room(found)
    assert not has_room([*found, Measured(16, 100.0, None)])
    assert has_room([*found, Measured(16, 120.0, None)])


def test_the_smallest_size_within_five_per_cent_of_the_highest_speed_is_chosen() -> None:
    speeds = {8: 50.0, 16: 94.0, 32: 96.0, 64: 100.0, 128: None}
    found = [Measured(size, speed, None) for size, speed in speeds.items()]
    assert choose_size(found, most=64) == found[2]
    assert choose_size(found, most=16) == found[1]
    assert choose_size(found, most=4) == found[0]  # there is no smaller one
    assert choose_size([Measured(8, None, None)], most=64) is None
