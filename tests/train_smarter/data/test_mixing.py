"""MixUp and CutMix against torchvision's. It mixes an image with the one before it: of two, with the same as ours."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from train_smarter.data import mixing
from train_smarter.data.mixing import CutMix, Mixing, MixUp, blend, cutmix_boxes, mix_batch, mix_targets, sample_beta
from train_smarter.errors import UserError

LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
BOTH = pytest.mark.parametrize("each", [MixUp(alpha=0.4), CutMix(alpha=1)], ids=lambda each: type(each).__name__)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=generator(), dtype=torch.uint8)


def draw_shares(monkeypatch: pytest.MonkeyPatch, shares: Sequence[float]) -> None:
    monkeypatch.setattr(mixing, "sample_beta", lambda *_: torch.tensor(shares))


# ---- as torchvision does it


@LAYOUTS
@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 1.0])
def test_mixup_is_that_of_torchvision(
    share: float, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = pixels(2, 3, 8, 9).contiguous(memory_format=layout), torch.tensor([2, 0])
    draw_shares(monkeypatch, [share, share])
    found, targets = mix_batch(images, labels, [MixUp(alpha=1)], generator(), num_classes=4)
    torchvision = v2.MixUp(num_classes=4)
    given = {"labels": labels, "batch_size": 2, "lam": share}
    torch.testing.assert_close(found, torchvision.transform(images / 255, given), rtol=0, atol=1e-6)
    torch.testing.assert_close(targets, torchvision.transform(labels, given), rtol=0, atol=1e-6)


@LAYOUTS
def test_cutmix_is_that_of_torchvision(layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = pixels(2, 3, 20, 30).contiguous(memory_format=layout), torch.tensor([2, 0])
    torchvision = v2.CutMix(num_classes=4)
    for share, row, column in ((0.6, 9, 14), (0.5, 0, 29), (0.04, 10, 10), (1.0, 5, 5)):
        draw_shares(monkeypatch, [share, share])
        monkeypatch.setattr(mixing, "randint", lambda side, *_, at=(row, column): torch.tensor([at[side == 30]] * 2))
        found, targets = mix_batch(images, labels, [CutMix(alpha=1)], generator(), num_classes=4)
        params = {"labels": labels, "batch_size": 2, **torchvision_box(torchvision, images, share, row, column)}
        assert found.dtype == torch.uint8
        assert found.equal(torchvision.transform(images, params))
        torch.testing.assert_close(targets, torchvision.transform(labels, params), rtol=0, atol=1e-6)


def torchvision_box(torchvision: v2.CutMix, images: Tensor, share: float, row: int, column: int) -> dict[str, Any]:
    """What `make_params` draws, with these numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision._dist, "sample", lambda _: torch.tensor([share], dtype=torch.double))
        patch.setattr(torch, "randint", lambda side, size: torch.tensor([row if side == 20 else column]))  # noqa: ARG005
        params: dict[str, Any] = torchvision.make_params([images])
    return params


def test_boxes_of_random_shares_are_those_of_torchvision() -> None:
    torchvision, images = v2.CutMix(num_classes=4), torch.empty(1, 1, 20, 30)
    shares = torch.rand(200, generator=generator())
    rows, columns = (torch.randint(side, (200,), generator=generator(side)) for side in (20, 30))
    boxes = cutmix_boxes(shares, rows, columns, size=(20, 30))
    for box, share, row, column in zip(boxes.tolist(), shares.tolist(), rows.tolist(), columns.tolist(), strict=True):
        x1, y1, x2, y2 = torchvision_box(torchvision, images, share, row, column)["box"]
        assert box == [y1, x1, y2 - y1, x2 - x1]


@pytest.mark.parametrize(
    ("alpha", "quantile"),
    [
        (1, lambda u: u),
        (0.5, lambda u: math.sin(math.pi * u / 2) ** 2),  # the arcsine distribution
        (2, lambda u: 0.5 - math.sin(math.asin(1 - 2 * u) / 3)),  # of which 3 x^2 - 2 x^3 is the share below x
    ],
)
def test_shares_are_drawn_from_the_beta_distribution(alpha: float, quantile: Any) -> None:
    count = 1000
    found = sample_beta(alpha, torch.empty(count, 1), generator(3))
    uniform = torch.rand(count, generator=generator(3)).tolist()
    assert found.tolist() == pytest.approx([quantile(u) for u in uniform], abs=2e-4)


@pytest.mark.parametrize("alpha", [0.001, 0.2, 5, 10])
def test_shares_have_the_variance_of_their_distribution(alpha: float) -> None:
    drawn = sample_beta(alpha, torch.empty(40_000, 1), generator()).double()
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


# ---- each image on its own


@BOTH
def test_each_image_has_its_own_share_and_its_target_the_same_one(each: Mixing) -> None:
    """Image i has the value i everywhere, and its partner is the one half a batch before it."""
    values = torch.arange(8.0)
    images, labels = (values / 10).view(8, 1, 1, 1).expand(8, 1, 16, 16).contiguous(), torch.arange(8)
    found, targets = mix_batch(images, labels, [each], generator(), num_classes=8)
    own = targets[torch.arange(8), labels]
    assert len(own.unique()) == 8
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    partner = (torch.arange(8) - 4) % 8
    torch.testing.assert_close(targets[torch.arange(8), partner], 1 - own)
    mean = own * values + (1 - own) * values[partner]
    torch.testing.assert_close(found.mean((1, 2, 3)) * 10, mean, rtol=1e-5, atol=1e-5)


def test_with_both_each_image_gets_one_of_them() -> None:
    """MixUp leaves all pixels of an image of one value alike, CutMix has two values, those of the batch."""
    images = torch.arange(400).fmod(2).mul(255).view(400, 1, 1, 1).expand(400, 1, 6, 6).to(torch.uint8).contiguous()
    images[200:] = 255 - images[200:]  # partners differ
    found, targets = mix_batch(
        images, torch.arange(400), [MixUp(alpha=1), CutMix(alpha=1)], generator(), num_classes=400
    )
    flat = found.amax((1, 2, 3)) == found.amin((1, 2, 3))
    between = flat & ~((found.amax((1, 2, 3)) == 0) | (found.amax((1, 2, 3)) == 1))
    cut = ~flat
    assert set(found[cut].unique().tolist()) == {0.0, 1.0}
    assert 160 < between.sum() < 240
    assert 100 < cut.sum() < 240  # a box may be empty, or all of the image
    own = targets[torch.arange(400), torch.arange(400)]
    start = images[:, 0, 0, 0] / 255
    torch.testing.assert_close(found.mean((1, 2, 3)), own * start + (1 - own) * (1 - start), rtol=0, atol=1e-5)


@BOTH
@pytest.mark.parametrize("p", [0.0, 0.25])
def test_images_are_mixed_with_their_probability(each: Mixing, p: float) -> None:
    mixes = type(each)(alpha=1, p=p)
    labels = torch.arange(1000)
    _, targets = mix_batch(torch.zeros(1000, 1, 8, 8), labels, [mixes], generator(), num_classes=1000)
    mixed = int((targets.amax(1) < 1).sum())
    assert mixed == 0 if p == 0 else 180 < mixed < 300  # 250, some boxes are empty


def test_images_that_are_not_mixed_stay_as_they_are() -> None:
    images = pixels(40, 3, 8, 8)
    found, targets = mix_batch(images, torch.arange(40), [MixUp(alpha=1, p=0.5)], generator(), num_classes=40)
    untouched = targets.amax(1) == 1
    assert 10 < untouched.sum() < 30
    assert found[untouched].equal(images[untouched].float() / 255)


def test_large_batches_are_blended_in_pieces_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    images, others, share = pixels(11, 3, 10, 10), pixels(11, 3, 10, 10).flip(0), torch.rand(11)
    whole = blend(images, others, share)
    monkeypatch.setattr(mixing, "pieces", lambda _: 4)
    assert blend(images, others, share).equal(whole)


@BOTH
def test_the_draw_is_that_of_the_generator_alone(each: Mixing) -> None:
    images, state = pixels(8, 3, 8, 8), torch.get_rng_state()
    first = mix_batch(images, torch.arange(8), [each], generator(1), num_classes=8)
    assert torch.get_rng_state().equal(state)
    again = mix_batch(images, torch.arange(8), [each], generator(1), num_classes=8)
    other = mix_batch(images, torch.arange(8), [each], generator(2), num_classes=8)
    assert first[0].equal(again[0])
    assert first[1].equal(again[1])
    assert not first[0].equal(other[0])
    assert images.equal(pixels(8, 3, 8, 8)), "the given images are not written to"


def test_a_batch_of_one_image_is_mixed_with_itself() -> None:
    images = pixels(1, 1, 4, 4)
    found, targets = mix_batch(images, torch.tensor([1]), [MixUp(alpha=1)], generator(), num_classes=3)
    torch.testing.assert_close(found, images / 255)
    assert targets.tolist() == [[0, 1, 0]]


@BOTH
def test_nothing_is_read_back_from_the_device(each: Mixing) -> None:
    images, labels = torch.empty(4, 3, 8, 8, device="meta"), torch.zeros(4, dtype=torch.long, device="meta")
    found, targets = mix_batch(images, labels, [each], generator(), num_classes=5)
    assert (found.shape, targets.shape) == ((4, 3, 8, 8), (4, 5))


# ---- targets


def test_labels_are_mixed_by_their_shares() -> None:
    labels = torch.tensor([[1, 0, 1], [0, 0, 1]], dtype=torch.uint8)
    found = mix_targets(labels, torch.tensor([0.75, 0.5]), num_classes=3)
    assert found.tolist() == [[0.75, 0.0, 1.0], [0.5, 0.0, 1.0]]


def test_integers_of_no_classes_are_numbers() -> None:
    assert mix_targets(torch.tensor([10, 20]), torch.tensor([0.75, 0.5]), num_classes=0).tolist() == [12.5, 15]


def test_two_images_of_one_class_have_all_of_it() -> None:
    assert mix_targets(torch.tensor([1, 1]), torch.tensor([0.3, 0.6]), num_classes=2).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("targets", [torch.zeros(2, 4, 4, dtype=torch.long), {"label": torch.zeros(2)}])
def test_targets_without_a_mean_are_refused(targets: Any) -> None:
    with pytest.raises(UserError, match="mixup and cutmix mix classes and labels, and these targets are"):
        mix_targets(targets, torch.ones(2), num_classes=3)


@pytest.mark.parametrize("setting", [{"alpha": -1}, {"alpha": 11}, {"alpha": 1, "p": 2}, {"alpha": "x"}])
def test_a_setting_out_of_range_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"MixUp takes a number from 0 to (10|1) as (alpha|p), not"):
        MixUp(**setting)


@pytest.mark.parametrize("each", [MixUp(), CutMix(), MixUp(alpha=0, p=1), CutMix(alpha=1, p=0)])
def test_without_alpha_or_probability_nothing_is_mixed(each: Mixing) -> None:
    assert not each
