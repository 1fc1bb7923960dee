from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from my_project.model.speedrun import Speedrun, whitening
from train_smarter import Classification
from train_smarter.errors import UserError

CONTRACT_OVERRIDES = ["model.widths=[16,16,16]"]  # a small model, for the contract tests


def small(*, shape: tuple[int, int, int] = (3, 9, 9), num_classes: int = 3, **options: Any) -> Speedrun:
    options = {"widths": [26, 28, 30], "optimizer": partial(SGD, lr=0.01), **options}
    return Speedrun(shape=shape, task=Classification(num_classes=num_classes), **options)


def first_norm(model: Speedrun) -> nn.Sequential:
    """Behind the first convolution and its pool: the norm and the constant that undoes its factor."""
    return nn.Sequential(*(model.get_submodule(f"features.1.{number}") for number in (2, 3)))


def images(count: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *(shape or (3, 9, 9)), generator=torch.Generator().manual_seed(seed))


def fit(model: Speedrun, inputs: Tensor, *, epochs: int = 1, start: Path | None = None) -> lightning.Trainer:
    """Trains on `inputs` (N, C, H, W) in batches of 4, in their order."""
    trainer = lightning.Trainer(
        accelerator="cpu",
        log_every_n_steps=1,
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    labels = torch.arange(len(inputs)) % model.num_outputs
    batches = [*zip(inputs.split(4), labels.split(4), strict=True)]
    loader: DataLoader[Any] = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(model, loader, loader, ckpt_path=start, weights_only=True)
    return trainer


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    torch.manual_seed(0)


# ---- the network


def test_with_the_widths_of_the_record_it_has_these_parameters() -> None:
    with torch.device("meta"):
        model = Speedrun(shape=[3, 32, 32], task=Classification(num_classes=10))
    # whitening: 24 filters of 3 * 2 * 2, and 24 biases = 312; group 1: 9 * (24 * 64 + 64 * 64) = 50,688
    # group 2: 9 * (64 * 256 + 256 * 256) = 737,280; group 3: 9 * 2 * 256 * 256 = 1,179,648; head: 256 * 10 = 2,560
    # norms: a factor and a bias for each of 2 * (64 + 256 + 256) = 1,152 channels = 2,304
    expected = 312 + 50_688 + 737_280 + 1_179_648 + 2_560 + 2_304
    assert expected == 1_972_792
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    fixed = sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)
    assert fixed == 24 * 12 + 1_152


@pytest.mark.parametrize(
    ("shape", "num_classes", "logits"),
    [((3, 32, 32), 10, (2, 10)), ((1, 28, 28), 2, (2, 1)), ((4, 9, 50), 3, (2, 3))],
)
def test_any_channels_sizes_and_classes_fit(
    shape: tuple[int, int, int], num_classes: int, logits: tuple[int, int]
) -> None:
    assert small(shape=shape, num_classes=num_classes)(images(2, *shape)).shape == logits


def test_each_group_halves_the_resolution() -> None:
    model = small(shape=(3, 32, 32), widths=[4, 5])
    # 32 - 1 without padding, 31 // 2 = 15, 15 // 2 = 7
    assert model.features(model.whiten(images(1, 3, 32, 32))).shape == (1, 5, 7, 7)


@pytest.mark.parametrize(("widths", "least"), [([4], 3), ([4, 4, 4], 9)])  # 2 + 1 and 8 + 1
def test_an_image_that_the_pools_use_up_is_refused(widths: list[int], least: int) -> None:
    small(shape=(3, least, least), widths=widths)(images(2, 3, least, least))
    with pytest.raises(UserError, match=rf"at least {least}x{least} pixels with {len(widths)} widths, not {least - 1}"):
        small(shape=(3, least - 1, 20), widths=widths)


def test_a_convolution_begins_by_handing_on_what_it_was_given() -> None:
    convolution = small().get_submodule("features.1.0")  # 24 channels to 26
    given = images(2, 24, 4, 4)
    assert convolution(given)[:, :24].equal(given)


def test_a_norm_hands_on_a_mean_of_0_and_a_variance_of_1() -> None:
    norm = first_norm(small(widths=[5, 5, 5]))
    out = norm(images(50, 5, 4, 4)).transpose(0, 1).flatten(1)
    assert out.mean(1).allclose(torch.zeros(5), atol=1e-5)
    assert out.var(1, unbiased=False).allclose(torch.ones(5), atol=1e-3)


def test_the_bias_of_a_norm_learns_64_times_as_fast() -> None:
    norm = first_norm(small(widths=[5, 5, 5]))
    optimizer = SGD([parameter for parameter in norm.parameters() if parameter.requires_grad], lr=0.5)
    same = torch.ones(2, 5, 1, 1)  # normalised: 0
    norm(same)[:, 0].mean().backward()
    optimizer.step()
    # A bias b has the gradient 1 in the first channel: after the step it would be 0 - 0.5 * 1.
    assert norm(same)[:, 0].allclose(torch.tensor(-0.5 * 64))
    assert norm(same)[:, 1:].equal(torch.zeros(2, 4, 1, 1))


def test_the_gradient_reaches_every_weight_that_is_trained() -> None:
    model = small()
    model.whiten.weight.copy_(whitening(images(4)))
    model(images(4)).square().sum().backward()
    assert all((p.grad is not None and bool(p.grad.any())) == p.requires_grad for p in model.parameters())


# ---- the mirror image


def test_an_image_is_evaluated_with_its_mirror_image() -> None:
    model, batch = small().eval(), images(4)
    model.whiten.weight.copy_(whitening(batch))
    plain = [model.logits(batch), model.logits(batch.flip(3))]
    assert not plain[0].allclose(plain[1])
    assert model(batch).allclose((plain[0] + plain[1]) / 2)


@pytest.mark.parametrize(("training", "flip_tta"), [(True, True), (False, False)])
def test_in_training_or_without_the_option_the_image_is_alone(training: bool, flip_tta: bool) -> None:
    model, batch = small(flip_tta=flip_tta).train(training), images(4)
    model.whiten.weight.copy_(whitening(batch))
    assert model(batch).equal(model.logits(batch))


# ---- the whitening


def test_the_filters_are_the_components_over_the_roots_of_their_variances() -> None:
    # Four images that are one patch each: 4, 6, 8, 2 in one pixel, so the mean squares are 4, 9, 16, 1.
    patches = torch.diag(torch.tensor([4.0, 6.0, 8.0, 2.0])).view(4, 1, 2, 2)
    filters = whitening(patches, epsilon=0)
    assert filters.shape == (8, 1, 2, 2)
    expected = torch.tensor([[0, 0, 1 / 4, 0], [0, 1 / 3, 0, 0], [1 / 2, 0, 0, 0], [0, 0, 0, 1.0]]).view(4, 1, 2, 2)
    assert filters[:4].abs().allclose(expected, atol=1e-6)  # 8, 6, 4, 2; a component has no sign
    assert filters[4:].equal(-filters[:4])


def test_whitened_patches_are_uncorrelated_and_of_size_1() -> None:
    batch = images(20, 3, 9, 9)
    out = nn.functional.conv2d(batch, whitening(batch, epsilon=0)[:12]).transpose(0, 1).flatten(1)
    assert (out @ out.T / out.shape[1]).allclose(torch.eye(12), atol=1e-3)


def test_a_component_that_does_not_occur_is_not_blown_up() -> None:
    filters = whitening(torch.ones(2, 3, 9, 9), epsilon=0.25)
    assert filters.flatten(1).norm(dim=1).max() <= 1 / 0.25**0.5 + 1e-4


def test_the_first_batch_makes_the_filters_and_no_later_one_changes_them() -> None:
    model, inputs = small(), images(8)
    assert not model.whiten.weight.any()
    fit(model, inputs, epochs=2)
    assert model.whiten.weight.equal(whitening(inputs[:4]))


def test_every_process_takes_the_filters_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_the_first(_: object, value: Any, src: int = 0) -> Any:  # noqa: ARG001
        return torch.full_like(value, 7) if isinstance(value, Tensor) else value

    monkeypatch.setattr(SingleDeviceStrategy, "broadcast", from_the_first)
    model = small()
    fit(model, images(4))
    assert model.whiten.weight.eq(7).all()


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Tensor, Path]:
    """The filters of a trained model, and its checkpoint."""
    model = small()
    fit(model, images(4)).save_checkpoint(tmp_path / "model.ckpt")
    return model.whiten.weight.clone(), tmp_path / "model.ckpt"


def test_a_run_that_goes_on_keeps_its_filters(saved: tuple[Tensor, Path]) -> None:
    model = small()
    fit(model, images(4, seed=1), epochs=2, start=saved[1])
    assert model.whiten.weight.equal(saved[0])


@pytest.mark.parametrize("freeze", ["none", "backbone"])
def test_given_filters_are_kept(saved: tuple[Tensor, Path], freeze: str) -> None:
    model = small(num_classes=5, pretrained=str(saved[1]), freeze=freeze)
    fit(model, images(4, seed=1))
    assert model.whiten.weight.equal(saved[0])


def test_given_weights_of_other_channels_leave_the_filters_to_the_first_batch(saved: tuple[Tensor, Path]) -> None:
    model, grey = small(shape=(1, 9, 9), pretrained=str(saved[1])), images(4, 1, 9, 9)
    fit(model, grey)
    assert model.whiten.weight.equal(whitening(grey))


def test_a_frozen_model_keeps_the_statistics_of_its_norms() -> None:
    model = small(freeze="backbone")
    before = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    assert len(before) == 12  # mean and variance of six norms
    fit(model, images(8))
    after = dict(model.named_buffers())
    assert all(after[name].equal(value) for name, value in before.items())


def test_a_checkpoint_alone_makes_the_same_model_again(saved: tuple[Tensor, Path]) -> None:
    model = Speedrun.load_from_checkpoint(saved[1])
    assert model.whiten.weight.equal(saved[0])
    assert list(model.hparams["widths"]) == [26, 28, 30]
