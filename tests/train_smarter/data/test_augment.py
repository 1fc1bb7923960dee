import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate as torchvision_rotate

from train_smarter.config.build import build_data
from train_smarter.data import augment as data_augment
from train_smarter.data.augment import (
    Augmentation,
    ColorJitter,
    Crop,
    Cutout,
    Erase,
    Flip,
    ResizedCrop,
    Rotation,
)
from train_smarter.data.image_data import ImageData
from train_smarter.data.image_moves import CoordinateMap, MirrorMap, ShiftMap, apply_maps, rotate_map
from train_smarter.data.mixing import CutMix, MixUp
from train_smarter.data.policies import RandAugment, TrivialAugment
from train_smarter.errors import UserError

Compose = Callable[..., DictConfig]
ALL = [
    ResizedCrop(scale=0.08),
    Rotation(degrees=30),
    Flip(p=0.5),
    Crop(padding=2),
    ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
    Cutout(size=3),
    TrivialAugment(p=1),
    RandAugment(num_ops=2),
    Erase(p=0.5),
]
NEUTRAL = [
    ResizedCrop(),
    Rotation(),
    Flip(),
    Crop(),
    TrivialAugment(),
    RandAugment(),
    ColorJitter(),
    Cutout(),
    Erase(),
    MixUp(),
    CutMix(),
]
every = pytest.mark.parametrize("change", ALL, ids=lambda change: type(change).__name__)


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(*rows: Sequence[float]) -> Tensor:
    """One grey image (1, 1, H, W)."""
    return torch.tensor(rows)[None, None].float()


def moved(images: Tensor, *moves: CoordinateMap) -> Tensor:
    return apply_maps(images, moves)


def pixel(red: float, green: float, blue: float) -> Tensor:
    return torch.tensor([red, green, blue]).float().view(1, 3, 1, 1)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 7, 7), (2, 5, 6, 9)])
def test_a_rotation_by_0_changes_nothing(shape: tuple[int, ...]) -> None:
    assert moved(images(*shape), rotate_map(torch.zeros(2))).equal(images(*shape))


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_rotation_by_90_degrees_is_exact(side: int, quarters: int) -> None:
    found = moved(images(2, 3, side, side), rotate_map(torch.full((2,), quarters * math.pi / 2)))
    assert found.equal(images(2, 3, side, side).rot90(quarters, (2, 3)))


def test_a_rotation_goes_counter_clockwise() -> None:
    assert moved(grid([1, 2], [3, 4]), rotate_map(torch.tensor([math.pi / 2]))).equal(grid([2, 4], [1, 3]))


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 28, 28), (1, 3, 20, 31)])
@pytest.mark.parametrize("degrees", [-9.3, 4.7, 63.1])
def test_a_rotation_is_that_of_torchvision(shape: tuple[int, ...], degrees: float) -> None:
    expected = torchvision_rotate(images(*shape), degrees, InterpolationMode.NEAREST)
    assert moved(images(*shape), rotate_map(torch.tensor([math.radians(degrees)]))).equal(expected)


def test_a_rotation_brings_zeros_in_from_outside() -> None:
    found = moved(torch.ones(1, 1, 8, 8), rotate_map(torch.tensor([math.pi / 4])))[0, 0]
    assert [found[0, 0], found[0, 7], found[7, 0], found[7, 7], found[4, 4]] == [0, 0, 0, 0, 1]


def test_angles_stay_within_the_degrees_and_fill_them(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []
    monkeypatch.setattr(data_augment, "rotate_map", drawn.append)
    Rotation(degrees=10).sample_map(torch.zeros(1000, 1, 1, 1), generator())
    degrees = drawn[0].rad2deg()
    assert -10 <= degrees.min() < -9.5
    assert 9.5 < degrees.max() <= 10


def test_a_flip_mirrors_left_to_right_where_it_is_chosen() -> None:
    pair = torch.cat([grid([1, 2], [3, 4])] * 2)
    flipped = moved(pair, MirrorMap(torch.tensor([True, False])))
    assert flipped.equal(torch.cat([grid([2, 1], [4, 3]), grid([1, 2], [3, 4])]))


def test_a_flip_happens_with_its_probability() -> None:
    flipped = Flip(p=0.25)(grid([0, 1]).expand(1000, 1, 1, 2), generator())
    assert 200 < flipped[:, 0, 0, 0].sum() < 300  # 250, give or take 3.6 standard deviations of 13.7


@pytest.mark.parametrize(
    ("down", "right", "expected"),
    [
        (0, 0, grid([1, 2], [3, 4])),
        (-1, -1, grid([0, 0], [0, 1])),
        (1, 0, grid([3, 4], [0, 0])),
        (0, 1, grid([2, 0], [4, 0])),
    ],
)
def test_a_shifted_window_is_filled_with_zeros(down: int, right: int, expected: Tensor) -> None:
    found = moved(grid([1, 2], [3, 4]), ShiftMap(torch.tensor([down]), torch.tensor([right])))
    assert found.equal(expected)


def test_moves_follow_each_other_in_their_order() -> None:
    image = grid([1, 2], [3, 4])
    quarter, mirror = rotate_map(torch.tensor([math.pi / 2])), MirrorMap(torch.tensor([True]))
    assert moved(image, quarter, mirror).equal(grid([4, 2], [3, 1]))  # [2, 4], [1, 3] and then mirrored
    assert moved(image, mirror, quarter).equal(grid([1, 3], [2, 4]))  # [2, 1], [4, 3] and then turned


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_bytes_in_any_layout_are_moved_as_floats_are(channels: int, layout: torch.memory_format) -> None:
    pixels = (images(4, channels, 9, 7) * 255).byte()
    moves = [motion.sample_map(pixels, generator()) for motion in (Rotation(degrees=30), Flip(p=0.5), Crop(padding=2))]
    found = apply_maps(pixels.contiguous(memory_format=layout), moves)
    assert found.dtype == torch.uint8
    assert found.float().equal(apply_maps(pixels.float(), moves))


def test_a_crop_draws_every_window() -> None:
    windows = Crop(padding=1)(grid([1, 2], [3, 4]).expand(500, 1, 2, 2), generator())
    assert len(windows.flatten(1).unique(dim=0)) == 9  # 3 down times 3 right


@pytest.mark.parametrize(
    ("row", "column", "size", "expected"),
    [
        (1, 1, 2, grid([0.5, 0.5, 1], [0.5, 0.5, 1], [1, 1, 1])),
        (0, 0, 2, grid([0.5, 1, 1], [1, 1, 1], [1, 1, 1])),  # rows and columns -1 and 0
        (2, 1, 1, grid([1, 1, 1], [1, 1, 1], [1, 0.5, 1])),
        (1, 1, 9, grid([0.5] * 3, [0.5] * 3, [0.5] * 3)),
    ],
)
def test_a_cutout_is_a_grey_square_that_may_reach_over_the_edge(
    row: int, column: int, size: int, expected: Tensor
) -> None:
    cut = data_augment.cutout(torch.ones(1, 1, 3, 3), torch.tensor([row]), torch.tensor([column]), size=size)
    assert cut.equal(expected)


def test_brightness_multiplies_and_stops_at_white() -> None:
    assert data_augment.brighten(grid([0.2, 0.8]), torch.tensor([1.5])).allclose(grid([0.3, 1.0]))  # 0.8 * 1.5 = 1.2


def test_contrast_spreads_around_the_mean() -> None:
    pair = torch.cat([grid([0.4, 0.6]), grid([0.2, 0.4])])
    # mean 0.5: 0.5 - 0.1 * 2 and 0.5 + 0.1 * 2; mean 0.3: 0.3 - 0.1 * 3 and 0.3 + 0.1 * 3
    expected = torch.cat([grid([0.3, 0.7]), grid([0.0, 0.6])])
    assert data_augment.contrast(pair, torch.tensor([2.0, 3.0])).allclose(expected, atol=1e-6)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        (pixel(1, 0, 0), pixel(0.6495, 0.1495, 0.1495)),  # grey 0.299; halfway to it, 0.5 + 0.1495 and 0.1495
        (pixel(0, 1, 0), pixel(0.2935, 0.7935, 0.2935)),  # grey 0.587
        (pixel(0, 0, 1), pixel(0.057, 0.057, 0.557)),  # grey 0.114
    ],
)
def test_saturation_spreads_around_the_grey_of_each_pixel(colour: Tensor, expected: Tensor) -> None:
    assert data_augment.saturate(colour, torch.tensor([0.5])).allclose(expected)


def test_a_third_of_the_hue_circle_turns_red_into_green() -> None:
    assert data_augment.rotate_hue(pixel(1, 0, 0), torch.tensor([1 / 3])).allclose(pixel(0, 1, 0), atol=1e-6)


def test_hue_leaves_grey_alone() -> None:
    assert data_augment.rotate_hue(pixel(0.3, 0.3, 0.3), torch.tensor([0.2])).allclose(pixel(0.3, 0.3, 0.3))


@pytest.mark.parametrize(
    "change",
    [data_augment.brighten, data_augment.contrast, data_augment.saturate],
    ids=lambda change: change.__name__,
)
def test_a_factor_of_1_changes_nothing(change: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert change(images(2, 3, 4, 4), torch.ones(2)).allclose(images(2, 3, 4, 4))


@pytest.mark.parametrize("channels", [1, 5])
def test_saturation_and_hue_leave_images_without_colours_alone(channels: int) -> None:
    batch = images(2, channels, 4, 4)
    assert ColorJitter(saturation=1, hue=0.5)(batch, generator()).equal(batch)


@every
def test_each_image_gets_a_draw_of_its_own(change: Augmentation) -> None:
    changed = change(images(1, 3, 8, 8).expand(32, 3, 8, 8), generator())
    assert len(changed.flatten(1).unique(dim=0)) > 1


@every
def test_the_draw_is_that_of_the_generator(change: Augmentation) -> None:
    batch = images(8, 3, 8, 8)
    first = change(batch, generator(1))
    torch.rand(1)  # the global state has no say
    assert change(batch, generator(1)).equal(first)
    assert not change(batch, generator(2)).equal(first)


@every
@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (4, 1, 6, 9), (1, 5, 9, 6)])
def test_shape_and_range_are_kept(change: Augmentation, shape: tuple[int, ...]) -> None:
    changed = change(images(*shape), generator())
    assert changed.shape == shape
    assert changed.dtype == torch.float
    assert changed.min() >= 0
    assert changed.max() <= 1


@every
def test_the_given_images_are_not_written_to(change: Augmentation) -> None:
    batch = images(8, 3, 8, 8)
    change(batch, generator())
    assert batch.equal(images(8, 3, 8, 8))


@every
def test_nothing_is_read_back_from_the_device(change: Augmentation) -> None:
    # Tensors of the meta device have no values: whatever asks for one, or for a shape that depends on one, raises.
    assert change(torch.empty(4, 3, 8, 8, device="meta"), generator()).shape == (4, 3, 8, 8)


@pytest.mark.parametrize("change", NEUTRAL, ids=lambda change: type(change).__name__)
def test_without_settings_nothing_is_drawn_and_nothing_copied(change: Augmentation) -> None:
    batch, numbers = images(4, 3, 8, 8), generator()
    assert change(batch, numbers) is batch
    assert numbers.get_state().equal(generator().get_state())
    assert not change


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        (Rotation, {"degrees": -10}, "Rotation takes a number from 0 to 180 as degrees, not -10"),
        (Flip, {"p": 1.5}, "Flip takes a number from 0 to 1 as p, not 1.5"),
        (ColorJitter, {"hue": 1}, "ColorJitter takes a number from 0 to 0.5 as hue, not 1"),
        (Crop, {"padding": 2.5}, "Crop takes a whole number of at least 0 as padding, not 2.5"),
        (Cutout, {"size": None}, "Cutout takes a whole number of at least 0 as size, not None"),
    ],
)
def test_a_setting_out_of_range_is_refused(kind: type[Augmentation], setting: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        kind(**setting)
    assert str(refused.value) == message


def test_every_image_set_lists_all_augmentations_switched_off(compose: Compose) -> None:
    cfg = compose("data.augment.crop.padding=0")
    assert [entry._target_.rpartition(".")[2] for entry in cfg.data.augment.values()] == [
        type(op).__name__ for op in NEUTRAL
    ]
    assert on(cfg) == {}


def test_a_data_set_may_switch_augmentations_on(compose: Compose) -> None:
    assert on(compose("data=figures")) == {"rotation": Rotation(degrees=10), "flip": Flip(p=0.5)}


def test_one_override_changes_adds_or_removes_an_augmentation(compose: Compose) -> None:
    overrides = ["data.augment.rotation.degrees=15", "data.augment.crop.padding=4", "data.augment.flip=null"]
    assert on(compose("data=figures", *overrides)) == {"rotation": Rotation(degrees=15), "crop": Crop(padding=4)}


def on(cfg: DictConfig) -> object:
    """The augmentations of a built data set, by name."""
    data = build_data(cfg)
    assert isinstance(data, ImageData)
    return data.augment
