from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from train_smarter.speed.dropout import Dropout

MANY = 1_000_000


def dropped(p: float, features: Tensor, *, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    result: Tensor = Dropout(p)(features)
    return result


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
def test_a_feature_is_zero_with_probability_p_and_otherwise_larger_by_as_much(p: float) -> None:
    kept = dropped(p, torch.ones(MANY))
    # The share of a million draws is within five standard deviations of p: 5 * sqrt(p * (1 - p) / 1,000,000).
    assert abs((kept == 0).float().mean().item() - p) < 5 * (p * (1 - p) / MANY) ** 0.5
    torch.testing.assert_close(kept[kept != 0].unique(), torch.tensor([1 / (1 - p)]), rtol=1e-3, atol=0)


def test_features_are_dropped_independently_of_each_other() -> None:
    # A number of 64 bits makes four masks: neighbours and places at any distance are both dropped in a quarter.
    zero = (dropped(0.5, torch.ones(MANY)) == 0).float()
    for distance in (1, 2, 3, 4, 64):
        both = (zero[distance:] * zero[:-distance]).mean().item()
        assert both == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / MANY) ** 0.5)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 3, 5), (0, 4)])
def test_any_shape_comes_out_as_it_went_in(shape: tuple[int, ...]) -> None:
    assert dropped(0.5, torch.ones(shape)).shape == shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_type_of_numbers_stays(dtype: torch.dtype) -> None:
    kept = dropped(0.5, torch.ones(100, dtype=dtype))
    assert kept.unique().tolist() == [0.0, 2.0]
    assert kept.dtype == dtype


def test_channels_last_stays() -> None:
    images = torch.ones(2, 8, 4, 4).to(memory_format=torch.channels_last)
    assert dropped(0.5, images).is_contiguous(memory_format=torch.channels_last)


def test_a_gradient_goes_where_its_feature_went() -> None:
    features = torch.full((50, 50), 2.0, requires_grad=True)
    kept = dropped(0.3, features)
    kept.sum().backward()
    assert features.grad is not None
    torch.testing.assert_close(features.grad, kept.detach() / 2)
    assert 0 < (features.grad == 0).sum() < 2500


def test_the_seed_decides() -> None:
    features = torch.rand(1001)
    assert torch.equal(dropped(0.5, features, seed=1), dropped(0.5, features, seed=1))
    assert not torch.equal(dropped(0.5, features, seed=1), dropped(0.5, features, seed=2))


@pytest.mark.parametrize(("p", "share"), [(0.0, 0.0), (1.0, 1.0), (1e-9, 0.0), (1 - 1e-9, 1.0)])
def test_next_to_nothing_and_next_to_all(p: float, share: float) -> None:
    kept = dropped(p, torch.ones(10_000))
    assert kept.isfinite().all()
    assert (kept == 0).float().mean().item() == pytest.approx(share, abs=2e-3)


ELSEWHERE: dict[str, Callable[[], Any]] = {
    "evaluation": lambda: Dropout(0.5).eval(),
    "inplace": lambda: Dropout(0.5, inplace=True),
    "nothing to drop": lambda: Dropout(0.0),
    "compiled": lambda: torch.compile(Dropout(0.5), backend="eager", fullgraph=True),
}


@pytest.mark.parametrize("made", ELSEWHERE.values(), ids=ELSEWHERE)
def test_elsewhere_it_is_torchs_own(made: Callable[[], Any]) -> None:
    layer, features = made(), torch.rand(100)
    torch.manual_seed(3)
    own = nn.functional.dropout(features, layer.p, training=layer.training)
    torch.manual_seed(3)
    assert torch.equal(layer(features.clone()), own)
