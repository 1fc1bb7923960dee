from typing import Any

import pytest
import torch
from torch import nn

from my_project.model.cnn import CNN
from train_smarter import Classification
from train_smarter.errors import UserError


def cnn(*shape: int, num_classes: int = 10, **options: Any) -> CNN:
    return CNN(shape=shape, task=Classification(num_classes=num_classes), **options)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def kinds(model: CNN) -> list[str]:
    return [type(module).__name__ for module in [*model.features, *model.head]]


def test_it_has_the_parameters_of_the_article() -> None:
    # 3 x 3 x 3 x 32 + 32 = 896; 3 x 3 x 32 x 64 + 64 = 18,496; sides 32 -> 30 -> 15 -> 13 -> 6, so
    # 6 x 6 x 64 x 128 + 128 = 295,040; 128 x 10 + 10 = 1,290
    assert size(cnn(3, 32, 32)) == 896 + 18_496 + 295_040 + 1_290 == 315_722


def test_it_has_the_layers_of_the_article() -> None:
    convolutions = ["Conv2d", "MaxPool2d", "ReLU"] * 2
    assert kinds(cnn(3, 32, 32)) == [*convolutions, "Flatten", "Linear", "ReLU", "Dropout", "Linear"]


def test_a_relu_behind_the_pool_gives_what_the_article_has_before_it() -> None:
    features, images = cnn(3, 32, 32).features, torch.randn(2, 3, 32, 32)
    conv1, pool1, _, conv2, pool2, _ = features
    assert features(images).equal(pool2(conv2(pool1(conv1(images).relu())).relu()))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 10, 10), (3, 17, 40)])
def test_images_become_logits(shape: tuple[int, int, int]) -> None:
    assert cnn(*shape, num_classes=7)(torch.rand(2, *shape)).shape == (2, 7)


def test_two_classes_are_one_logit() -> None:
    assert cnn(1, 12, 12, num_classes=2)(torch.rand(5, 1, 12, 12)).shape == (5, 1)


def test_batch_normalisation_stands_after_each_convolution() -> None:
    model = cnn(3, 32, 32, batch_norm=True)
    assert kinds(model)[:8] == ["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"] * 2
    assert size(model) == 315_722 + 2 * 32 + 2 * 64  # a factor and a shift for each channel


def test_the_dense_layer_has_the_width_and_the_dropout_asked_for() -> None:
    model = cnn(3, 32, 32, hidden=16, dropout=0.5)
    assert size(model) == 896 + 18_496 + (2304 * 16 + 16) + (16 * 10 + 10)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.5]


def test_dropout_acts_in_training_alone() -> None:
    model, images = cnn(1, 12, 12, dropout=0.5), torch.rand(4, 1, 12, 12)
    assert not model(images).equal(model(images))
    model.eval()
    assert model(images).equal(model(images))


@pytest.mark.parametrize("shape", [(1, 9, 28), (1, 28, 9), (3, 8, 8), (1, 1, 1)])
def test_images_too_small_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=f"at least 10x10 pixels, not {shape[1]}x{shape[2]}"):
        cnn(*shape)


def test_its_convolutions_lie_channels_last() -> None:
    weights = [module.weight for module in cnn(3, 32, 32).features if isinstance(module, nn.Conv2d)]
    assert [weight.is_contiguous(memory_format=torch.channels_last) for weight in weights] == [True, True]
