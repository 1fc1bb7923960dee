import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2.functional import resized_crop as torchvision_resized_crop

from train_smarter.data.augment import ResizedCrop
from train_smarter.data.resized_crop import pick_boxes, resize_boxes, resize_by_matrices, sample_boxes
from train_smarter.errors import UserError

RATIO = (3 / 4, 4 / 3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=generator(), dtype=torch.uint8)


def boxes_in(images: Tensor, *, scale: tuple[float, float] = (0.08, 1), seed: int = 0) -> Tensor:
    return sample_boxes(images, generator(seed), scale=scale, ratio=RATIO)


def torchvision_crop(images: Tensor, boxes: Tensor, size: tuple[int, int], **how: Any) -> Tensor:
    cut = [
        torchvision_resized_crop(image, *box, list(size), **how)
        for image, box in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.stack(cut)


SIZES = pytest.mark.parametrize(
    ("image", "size"),
    [((64, 64), (56, 56)), ((61, 70), (16, 24)), ((12, 9), (20, 20)), ((90, 33), (8, 40))],
)


@SIZES
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_on_a_cpu_boxes_are_resized_as_by_torchvision_bit_for_bit(
    image: tuple[int, int], size: tuple[int, int], channels: int, layout: torch.memory_format
) -> None:
    images = pixels(16, channels, *image).contiguous(memory_format=layout)
    boxes = boxes_in(images)
    found = resize_boxes(images, boxes, size)
    assert found.equal(torchvision_crop(images, boxes, size, antialias=True))
    assert found.is_contiguous(memory_format=torch.channels_last)


@SIZES
def test_matrices_differ_by_at_most_one_step_where_torchvision_rounds_twice(
    image: tuple[int, int], size: tuple[int, int]
) -> None:
    images = pixels(16, 3, *image)
    boxes = boxes_in(images)
    found, expected = resize_by_matrices(images, boxes, size), resize_boxes(images, boxes, size)
    assert found.dtype == torch.uint8
    assert (found.int() - expected.int()).abs().max() <= 1
    floats = images.float() / 255
    torch.testing.assert_close(
        resize_by_matrices(floats, boxes, size), resize_boxes(floats, boxes, size), rtol=0, atol=1e-6
    )


@SIZES
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_a_mask_has_the_nearest_pixels_of_the_same_boxes(
    image: tuple[int, int], size: tuple[int, int], dtype: torch.dtype
) -> None:
    masks = pixels(16, 1, *image).to(dtype)
    boxes = boxes_in(masks)
    expected = torchvision_crop(masks, boxes, size, interpolation=InterpolationMode.NEAREST)
    assert pick_boxes(masks, boxes, size).equal(expected)


def test_boxes_are_distributed_as_those_of_torchvision() -> None:
    count, scale = 3000, (0.1, 0.9)
    ours = boxes_in(torch.empty(count, 0, 60, 80), scale=scale).double()
    transform, image = RandomResizedCrop(8, scale=scale, ratio=RATIO), torch.empty(3, 60, 80)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [transform.make_params([image]) for _ in range(count)]
    names = ("top", "left", "height", "width")
    theirs = torch.tensor([[each[name] for name in names] for each in drawn]).double()
    for moment in (1, 2):  # means within four standard errors of their difference
        one, other = ours**moment, theirs**moment
        error = ((one.var(0) + other.var(0)) / count).sqrt()
        assert ((one.mean(0) - other.mean(0)).abs() < 4 * error).all()


def test_boxes_are_inside_the_image_and_of_the_given_area_and_ratio() -> None:
    top, left, height, width = boxes_in(torch.empty(5000, 0, 200, 300), scale=(0.2, 0.5)).unbind(1)
    assert top.min() == 0
    assert left.min() == 0
    assert (top + height).max() == 200
    assert (left + width).max() == 300
    share, ratio = height * width / (200 * 300), width / height
    assert [share.min(), share.max()] == pytest.approx([0.2, 0.5], abs=0.01)
    assert [ratio.min(), ratio.max()] == pytest.approx(RATIO, abs=0.03)


@pytest.mark.parametrize(
    ("image", "box"),
    [
        ((10, 100), [0, 43, 10, 13]),  # round(10 * 4 / 3) = 13 columns, from (100 - 13) // 2 on
        ((100, 12), [42, 0, 16, 12]),  # round(12 / (3 / 4)) = 16 rows, from (100 - 16) // 2 on
    ],
)
def test_where_no_box_fits_the_largest_in_the_middle_is_taken(image: tuple[int, int], box: list[int]) -> None:
    found = boxes_in(torch.empty(50, 0, *image), scale=(0.9, 1))
    assert found.tolist() == [box] * 50


def test_the_whole_image_is_returned_as_it_is() -> None:
    images = pixels(4, 3, 20, 20)
    crop = ResizedCrop(scale=[1, 1], ratio=[1, 1])
    assert crop(images, generator()).equal(images)


def test_one_number_is_the_smallest_share() -> None:
    assert ResizedCrop(scale=0.25) == ResizedCrop(scale=[0.25, 1.0])
    assert not ResizedCrop(scale=0)
    assert not ResizedCrop()


@pytest.mark.parametrize(
    "scale", [1.5, -0.1, [0.5], [0.5, 0.4], [0, 1], [0.5, 1.2], "small", True, [0.1, "x"], math.nan]
)
def test_a_scale_that_is_none_is_refused(scale: Any) -> None:
    with pytest.raises(UserError, match=r"ResizedCrop takes a number from 0 to 1 as scale.*\[0.08, 1\], not"):
        ResizedCrop(scale=scale)


@pytest.mark.parametrize("ratio", [1, [1], [2, 1], [0, 1], [1, math.inf], None])
def test_a_ratio_that_is_none_is_refused(ratio: Any) -> None:
    with pytest.raises(UserError, match=r"ResizedCrop takes two numbers above 0 as ratio.*\[0.75, 1.33\], not"):
        ResizedCrop(scale=0.5, ratio=ratio)
