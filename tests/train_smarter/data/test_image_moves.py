from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop as torchvision_center_crop

from train_smarter.data import image_moves
from train_smarter.data.image_moves import (
    SLICE_TYPES,
    CoordinateMap,
    MirrorMap,
    ShiftMap,
    apply_maps,
    center_crop,
    rotate_map,
)

BATCH = 40
move_by_coordinates = image_moves._gather


def pixels(*shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    drawn = torch.randint(1, 256, (BATCH, *shape), generator=torch.Generator().manual_seed(0))
    return drawn > 127 if dtype == torch.bool else drawn.to(dtype)


def numbers(most: int, seed: int) -> Tensor:
    """(BATCH,) whole numbers from -most to most."""
    return torch.randint(-most, most + 1, (BATCH,), generator=torch.Generator().manual_seed(seed))


def shift(most: int, seed: int = 1) -> ShiftMap:
    return ShiftMap(numbers(most, seed), numbers(most, seed + 100))


def mirror(seed: int = 3) -> MirrorMap:
    return MirrorMap(numbers(1, seed) > 0)


@pytest.fixture
def _no_coordinates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only slices are left, in pieces of a few images."""

    def refuse(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("coordinates are computed")

    monkeypatch.setattr(image_moves, "_gather", refuse)
    monkeypatch.setattr(image_moves, "PIECE_BYTES", 8000)


MOVES: dict[str, list[CoordinateMap]] = {
    "shift": [shift(5)],
    "mirror": [mirror()],
    "mirror, shift": [mirror(), shift(5)],
    "shift, mirror": [shift(5), mirror()],
    "several": [shift(2, 11), mirror(12), shift(3, 13), mirror(14), mirror(15), shift(4, 16)],
    "out of the image": [shift(60)],
}
each_moves = pytest.mark.parametrize("moves", MOVES.values(), ids=MOVES)


@pytest.mark.usefixtures("_no_coordinates")
@each_moves
@pytest.mark.parametrize("shape", [(3, 31, 40), (1, 40, 25), (5, 24, 24)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("fill", [0, 255])
def test_slices_are_the_pixels_that_coordinates_name(
    moves: list[CoordinateMap], shape: tuple[int, ...], layout: torch.memory_format, fill: int
) -> None:
    images = pixels(*shape).contiguous(memory_format=layout)
    found = apply_maps(images, moves, fill=fill)
    expected = move_by_coordinates(images, moves, fill=fill, size=(shape[1], shape[2]))
    assert found.equal(expected)
    assert found.stride() == expected.stride()
    assert images.equal(pixels(*shape))  # not written to


@pytest.mark.usefixtures("_no_coordinates")
@pytest.mark.parametrize("dtype", SLICE_TYPES, ids=str)
def test_pixels_of_every_type_are_moved_by_slices(dtype: torch.dtype) -> None:
    images, moves = pixels(1, 30, 30, dtype=dtype), MOVES["several"]
    found = apply_maps(images, moves, fill=1)
    assert found.dtype == dtype
    assert found.equal(move_by_coordinates(images, moves, fill=1, size=(30, 30)))


@pytest.mark.parametrize("size", [(24, 24), (27, 30), (40, 33), (46, 50)])  # smaller, the same and larger; even and odd
@each_moves
def test_a_window_of_another_size_is_cut_out_in_the_same_copy(
    moves: list[CoordinateMap], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pixels(3, 40, 33)
    halves = [torch.full((BATCH,), (old - new) % 2 / 2) for old, new in zip((40, 33), size, strict=True)]
    expected = move_by_coordinates(images, [ShiftMap(*halves), *moves], fill=7, size=size)
    monkeypatch.setattr(image_moves, "_gather", None)
    found = apply_maps(images, [ShiftMap(*halves), *moves], fill=7, size=size)
    assert found.shape == (BATCH, 3, *size)
    assert found.equal(expected)


def test_a_window_begins_where_its_shift_says() -> None:
    image = torch.arange(30 * 30).view(1, 1, 30, 30)
    middle = (30 - 25) / 2
    found = apply_maps(image, [ShiftMap(torch.tensor([4 - middle]), torch.tensor([1 - middle]))], size=(25, 25))
    assert found.equal(image[:, :, 4:29, 1:26])


def test_turned_images_are_moved_by_coordinates() -> None:
    moves: list[CoordinateMap] = [shift(3), rotate_map(torch.linspace(-1, 1, BATCH)), mirror()]
    images = pixels(3, 30, 30)
    assert apply_maps(images, moves).equal(move_by_coordinates(images, moves, fill=0, size=(30, 30)))


def test_without_a_move_the_images_are_returned_as_they_are() -> None:
    images = pixels(3, 30, 30)
    assert apply_maps(images, []) is images


@pytest.mark.parametrize("size", [(24, 24), (23, 21), (30, 29), (1, 1)])
def test_the_middle_is_that_of_torchvision(size: tuple[int, int]) -> None:
    images = pixels(3, 30, 29)
    assert center_crop(images, size).equal(torchvision_center_crop(images, list(size)))
