import pytest
import torch
from torchvision.models.resnet import BasicBlock

from my_project.model.resnet import Block, ResNet
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


def test_without_stochastic_depth_a_block_is_torchvisions() -> None:
    resnet = ResNet(shape=[3, 8, 8], task=Classification(num_classes=10), depth=10, width=4)
    block = next(module for module in resnet.modules() if isinstance(module, Block))
    reference = BasicBlock(4, 4)
    reference.load_state_dict(block.state_dict())
    images = torch.rand(5, 4, 8, 8)
    assert torch.equal(block.train()(images), reference.train()(images))


def test_stochastic_depth_skips_later_blocks_more_often_in_training_alone() -> None:
    resnet = ResNet(shape=[3, 8, 8], task=Classification(num_classes=10), depth=10, width=4, stochastic_depth=0.6)
    blocks = [module for module in resnet.modules() if isinstance(module, Block)]
    assert [block.skip.p for block in blocks] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    last = blocks[-1]
    torch.nn.init.ones_(last.bn2.weight)
    images = torch.rand(1000, 16, 2, 2)
    same, change = last.downsample(images), last.bn2(last.conv2(last.relu(last.bn1(last.conv1(images)))))
    outputs = last(images)
    skipped = (outputs == same.relu()).flatten(1).all(1)
    assert skipped.float().mean().item() == pytest.approx(0.6, abs=0.06)  # four standard errors
    torch.testing.assert_close(outputs[~skipped], (same + change / (1 - 0.6)).relu()[~skipped])
    resnet.eval()
    same, change = last.downsample(images), last.bn2(last.conv2(last.relu(last.bn1(last.conv1(images)))))
    torch.testing.assert_close(last(images), (same + change).relu())
