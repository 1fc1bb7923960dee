"""RandAugment and TrivialAugment against torchvision's, operation by operation."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from train_smarter.data import policies
from train_smarter.data.augment import Augmentation, Erase
from train_smarter.data.policies import BINS, OPS, PolicyStep, RandAugment, TrivialAugment
from train_smarter.data.policy_ops import MOVES
from train_smarter.errors import UserError

TORCHVISION = v2.TrivialAugmentWide()
SIGNED = OPS[1:10]
SHAPES = pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 24, 41)])
LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(*shape: int) -> Tensor:
    """Noise, noise of few levels, and one value."""
    images = torch.randint(0, 256, shape, generator=generator(), dtype=torch.uint8)
    images[1] = images[1] // 8 + 100
    images[2] = 7
    return images


def torchvision(image: Tensor, name: str, magnitude: float) -> Tensor:
    nearest = v2.InterpolationMode.NEAREST
    found: Any = TORCHVISION._apply_image_or_video_transform(image, name, magnitude, interpolation=nearest, fill={})
    changed: Tensor = found
    return changed


@pytest.fixture(autouse=True)
def _fill_with_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.transforms.v2._auto_augment._get_fill", lambda *_: None)


def magnitudes(name: str, height: int, width: int) -> list[float]:
    """All of both policies, of either sign."""
    spaces = [policy._AUGMENTATION_SPACE[name][0](BINS, height, width) for policy in (v2.RandAugment, TORCHVISION)]
    found = [float(value) for space in spaces if space is not None for value in space[::3]] or [0.0]
    return [*found, *(-value for value in found if name in SIGNED)]


@SHAPES
@LAYOUTS
@pytest.mark.parametrize("name", OPS)
def test_an_operation_is_that_of_torchvision(
    name: str, shape: tuple[int, int, int], layout: torch.memory_format
) -> None:
    images = pictures(4, *shape).contiguous(memory_format=layout)
    for magnitude in magnitudes(name, *shape[1:]):
        step = PolicyStep(torch.full((4,), OPS.index(name)), torch.full((4,), magnitude))
        found, expected = step.change_images(images), torch.stack([torchvision(i, name, magnitude) for i in images])
        assert found.dtype == torch.uint8
        if name in ("Color", "Contrast"):  # a sum of two products is rounded once or twice
            assert (found.int() - expected.int()).abs().max() <= 1
            noisy = [0, 1, 3]  # the other one has a single value, for which all sums are rounded alike
            assert (found != expected)[noisy].float().mean() < 0.01
        else:
            clear = ~from_halfway(name, magnitude, *shape[1:]).expand_as(found)
            assert clear.float().mean() > 0.8
            assert found[clear].equal(expected[clear]), magnitude


def from_halfway(name: str, magnitude: float, height: int, width: int) -> Tensor:
    """Pixels (H, W) that come from halfway between two of the old image, where rounding errors choose one of them."""
    row, column = (torch.arange(side).double() - (side - 1) / 2 for side in (height, width))
    row = row[:, None]
    angle = math.radians(magnitude) if name == "Rotate" else 0
    old_row = math.sin(angle) * column + math.cos(angle) * row + (height - 1) / 2
    old_column = math.cos(angle) * column - math.sin(angle) * row + (width - 1) / 2
    if name == "ShearX":
        old_column = old_column + magnitude * (row + height / 2)
    if name == "ShearY":
        old_row = old_row + magnitude * (column + width / 2)
    return ((old_row % 1 - 0.5).abs() < 1e-3) | ((old_column % 1 - 0.5).abs() < 1e-3)


def test_each_image_of_a_batch_gets_its_own_operation() -> None:
    images = pictures(28, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    ops, values = torch.arange(28) % 14, torch.arange(28) / 40
    values[ops == OPS.index("Posterize")] = 3
    found = PolicyStep(ops, values).change_images(images)
    for image, op, value, changed in zip(images, ops.tolist(), values.tolist(), found, strict=True):
        expected = torchvision(image, OPS[op], value)
        assert (changed.int() - expected.int()).abs().max() <= (OPS[op] in ("Color", "Contrast")), OPS[op]


def test_all_images_at_once_are_changed_as_chosen_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, every operation goes over all images; here a CPU does it so, too."""
    images = pictures(28, 3, 16, 16)
    step = PolicyStep(torch.arange(28) % 14, torch.linspace(0, 0.9, 28))
    expected = step.change_images(images)
    monkeypatch.setattr(policies, "selects", lambda _: False)
    assert step.change_images(images).equal(expected)


@pytest.mark.parametrize("fill", [0, 255])
@pytest.mark.parametrize("name", OPS)
def test_a_mask_moves_as_its_image_does(name: str, fill: int) -> None:
    images = pictures(5, 1, 16, 16).clamp(1, 254)
    masks = images.long()
    magnitude = 5.0 if name in ("TranslateX", "TranslateY", "Posterize") else 30.0 if name == "Rotate" else 0.5
    step = PolicyStep(torch.full((5,), OPS.index(name)), torch.full((5,), magnitude))
    found = step.move_masks(masks, fill=fill)
    if name in MOVES:
        moved = step.change_images(images).long()
        assert (moved == 0).any()
        assert found.equal(moved.where(moved > 0, fill))
    else:
        assert found.equal(masks)


# ---- what is drawn


def drawn(policy: RandAugment | TrivialAugment, count: int = 20_000, side: int = 64) -> list[tuple[str, float]]:
    steps = list(policy.sample_steps(torch.empty(count, 0, side, side), generator()))
    return [
        (OPS[op], value)
        for step in steps
        for op, value in zip(step.ops.tolist(), step.magnitudes.tolist(), strict=True)
    ]


def assert_even(found: Sequence[Any], kinds: int) -> None:
    """All of `kinds` values, each as often as the others: five standard deviations."""
    counts, mean = Counter(found), len(found) / kinds
    assert len(counts) == kinds
    assert all(abs(count - mean) < 5 * math.sqrt(mean) for count in counts.values())


def test_operations_are_drawn_evenly() -> None:
    assert OPS == tuple(TORCHVISION._AUGMENTATION_SPACE) == tuple(v2.RandAugment._AUGMENTATION_SPACE)
    assert_even([name for name, _ in drawn(TrivialAugment(p=1))], 14)
    assert_even([name for name, _ in drawn(RandAugment(num_ops=2), 10_000)], 14)


@pytest.mark.parametrize("name", OPS)
def test_the_magnitudes_of_trivial_augment_are_those_of_torchvision(name: str) -> None:
    space, signed = TORCHVISION._AUGMENTATION_SPACE[name]
    known = space(BINS, 64, 64)
    known = [0.0] if known is None else sorted({float(value) for value in known})
    found = [value for op, value in drawn(TrivialAugment(p=1)) if op == name]
    assert sorted({abs(value) for value in found}) == known
    negative = sum(value < 0 for value in found) / len(found)
    assert 0.42 < negative < 0.55 if signed else negative == 0


@pytest.mark.parametrize("magnitude", [0, 9, 30])
@pytest.mark.parametrize("name", OPS)
def test_the_magnitude_of_rand_augment_is_that_of_torchvision(name: str, magnitude: int) -> None:
    space = v2.RandAugment._AUGMENTATION_SPACE[name][0](BINS, 48, 48)
    found = {abs(value) for op, value in drawn(RandAugment(num_ops=1, magnitude=magnitude), 500, 48) if op == name}
    assert found == {0.0 if space is None else float(space[magnitude])}


def test_the_operations_of_rand_augment_follow_each_other() -> None:
    images, policy = pictures(40, 3, 16, 16), RandAugment(num_ops=3)
    expected = images
    for step in policy.sample_steps(images, generator(1)):
        expected = step.change_images(expected)
    assert policy(images, generator(1)).equal(expected)
    assert not expected.equal(images)


def test_images_are_changed_with_their_probability() -> None:
    ops = [name for name, _ in drawn(TrivialAugment(p=0.25))]
    assert ops.count("Identity") / len(ops) == pytest.approx(1 - 0.25 * 13 / 14, abs=0.015)


def test_floats_are_rounded_to_levels() -> None:
    images = pictures(6, 3, 8, 8)
    step = PolicyStep(torch.tensor([0, 1, 6, 9, 12, 13]), torch.full((6,), 0.4))
    assert step.change_images(images / 255).equal(step.change_images(images) / 255)


@pytest.mark.parametrize(
    ("kind", "setting", "told"),
    [
        (TrivialAugment, {"p": 2}, "TrivialAugment takes a number from 0 to 1 as p, not 2"),
        (RandAugment, {"num_ops": 1.5}, "RandAugment takes a whole number from 0 to 16 as num_ops, not 1.5"),
        (RandAugment, {"num_ops": 2, "magnitude": 31}, "takes a whole number from 0 to 30 as magnitude, not 31"),
        (Erase, {"p": 1.5}, "Erase takes a number from 0 to 1 as p, not 1.5"),
        (Erase, {"p": 1, "scale": [0.5, 0.2]}, r"Erase takes two numbers above 0 as scale.*not \[0.5, 0.2\]"),
        (Erase, {"p": 1, "ratio": 1}, "Erase takes two numbers above 0 as ratio"),
        (
            Erase,
            {"p": 1, "fill": 128},
            "Erase takes a color as fill, one number from 0 to 1 or one per channel, not 128",
        ),
        (Erase, {"p": 1, "fill": "random"}, "Erase takes a color as fill.*not 'random'"),
    ],
)
def test_a_setting_out_of_range_is_refused(kind: type[Augmentation], setting: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        kind(**setting)


# ---- random erasing


def torchvision_boxes(count: int, **options: Any) -> Tensor:
    """(count, 4): top, left, height, width of torchvision's boxes; zeros where there is none."""
    transform, image = v2.RandomErasing(1, **options), torch.empty(3, 30, 40)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        params = [transform.make_params([image]) for _ in range(count)]
    return torch.tensor([[each[key] * (each["v"] is not None) for key in "ijhw"] for each in params])


def our_boxes(erase: Erase, count: int) -> Tensor:
    """The same, read off black images in which the box is white."""
    black = torch.zeros(count, 1, 30, 40, dtype=torch.uint8)
    white = erase(black, generator())[:, 0] == 255
    rows, columns = white.any(2), white.any(1)
    boxes = torch.stack([rows.int().argmax(1), columns.int().argmax(1), rows.sum(1), columns.sum(1)], 1)
    assert white.sum((1, 2)).equal(boxes[:, 2] * boxes[:, 3]), "the box is all of what is erased"
    return boxes


@pytest.mark.parametrize("options", [{}, {"scale": (0.3, 0.9), "ratio": (0.5, 3)}])
def test_boxes_are_distributed_as_those_of_torchvision(options: dict[str, Any]) -> None:
    count = 2000
    boxes = our_boxes(Erase(p=1, fill=1, **options), count), torchvision_boxes(count, **options)
    ours, theirs = (part.double() for part in boxes)
    none = [float((boxes[:, 2] == 0).double().mean()) for boxes in (ours, theirs)]
    assert none[0] == pytest.approx(none[1], abs=0.03)
    for part in range(4):
        one, other = ours[:, part], theirs[:, part]
        error = (one.var() / count + other.var() / count).sqrt()
        assert (one.mean() - other.mean()).abs() < 4 * error
        assert one.std() == pytest.approx(float(other.std()), rel=0.06)


@LAYOUTS
@pytest.mark.parametrize("fill", [0.2, [0.0, 0.5, 1.0]])
def test_a_box_has_the_color_and_the_rest_stays(layout: torch.memory_format, fill: Any) -> None:
    images = pictures(20, 3, 12, 12).clamp(1, 100).contiguous(memory_format=layout)
    color = torch.tensor([51, 51, 51] if fill == 0.2 else [0, 128, 255], dtype=torch.uint8)  # 0.2 * 255, 0.5 * 255
    found = Erase(p=0.5, scale=(0.2, 0.3), fill=fill)(images, generator())
    changed = (found != images).any(1)
    assert 4 < changed.any(2).any(1).sum() < 16
    assert found.permute(0, 2, 3, 1)[changed].equal(color.expand(int(changed.sum()), 3))
    floats = Erase(p=0.5, scale=(0.2, 0.3), fill=fill)(images / 255, generator())
    torch.testing.assert_close(floats, found / 255, rtol=0, atol=0.51 / 255)
