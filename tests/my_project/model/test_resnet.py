import pytest
import torch

from my_project.model.resnet import ResNet
from train_smarter import Classification
from train_smarter.errors import UserError

CONTRACT_OVERRIDES = ["model.width=8"]  # a small model, for the contract tests


def test_at_depth_18_it_has_the_parameters_known_for_cifar10() -> None:
    with torch.device("meta"):
        resnet = ResNet(shape=[3, 32, 32], task=Classification(num_classes=10))
    # stem: 9 * 3 * 64 + 2 * 64 = 1,856; stage 1: 4 * (9 * 64 * 64 + 2 * 64) = 147,968
    # stage 2: 9 * (64 * 128 + 3 * 128 * 128) + 64 * 128 + 5 * 2 * 128 = 525,568; stages 3 and 4 by the same sum with
    # 128, 256 and 256, 512: 2,099,712 and 8,393,728; head: 512 * 10 + 10 = 5,130
    expected = 1_856 + 147_968 + 525_568 + 2_099_712 + 8_393_728 + 5_130
    assert expected == 11_173_962
    assert sum(parameter.numel() for parameter in resnet.parameters()) == expected


@pytest.mark.parametrize(("depth", "convolutions"), [(10, 9), (18, 17), (34, 33)])  # and the dense layer
def test_the_depth_counts_the_layers_with_weights(depth: int, convolutions: int) -> None:
    resnet = ResNet(shape=[3, 32, 32], task=Classification(num_classes=10), depth=depth, width=2)
    layers = [m for m in resnet.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(layers) == convolutions


@pytest.mark.parametrize(
    ("shape", "num_classes", "logits"),
    [([3, 32, 32], 10, (2, 10)), ([1, 28, 28], 2, (2, 1)), ([4, 31, 50], 3, (2, 3))],
)
def test_any_channels_sizes_and_classes_fit(shape: list[int], num_classes: int, logits: tuple[int, int]) -> None:
    resnet = ResNet(shape=shape, task=Classification(num_classes=num_classes), depth=10, width=4)
    assert resnet(torch.rand(2, *shape)).shape == logits


def test_small_images_keep_their_resolution_in_the_first_stage() -> None:
    resnet = ResNet(shape=[3, 32, 32], task=Classification(num_classes=10), depth=10, width=4)
    images = torch.rand(1, 3, 32, 32)
    assert resnet.features[:4](images).shape == (1, 4, 32, 32)  # convolution, norm, ReLU, stage 1
    assert resnet.features(images).shape == (1, 32, 4, 4)  # three stages halve it


def test_each_block_starts_as_the_identity() -> None:
    resnet = ResNet(shape=[3, 8, 8], task=Classification(num_classes=10), width=4)
    stage = resnet.features[3]
    images = torch.rand(2, 4, 8, 8)
    assert stage(images).equal(images)


def test_the_gradient_reaches_every_weight() -> None:
    torch.manual_seed(0)
    resnet = ResNet(shape=[3, 16, 16], task=Classification(num_classes=3), depth=10, width=4)
    resnet(torch.rand(4, 3, 16, 16)).sum().backward()
    assert all(parameter.grad is not None for parameter in resnet.parameters())


def test_a_depth_that_is_not_built_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.depth=20: a ResNet is built with 10, 18, 34 layers"):
        ResNet(shape=[3, 32, 32], task=Classification(num_classes=10), depth=20)


@pytest.mark.parametrize(("width", "last"), [(8, True), (4, False)])
def test_convolutions_lie_channels_last_where_that_is_safe(width: int, last: bool) -> None:
    resnet = ResNet(shape=[3, 32, 32], task=Classification(num_classes=10), depth=10, width=width)
    weights = [m.weight for m in resnet.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
    assert {weight.is_contiguous(memory_format=torch.channels_last) for weight in weights} == {last}
