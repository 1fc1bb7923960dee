"""Networks of torchvision and timm, with a head for the task, and the weights that they start from."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import SGD
from torchvision import models

from train_smarter.commands.train import fit
from train_smarter.config.build import Components
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.image_data import ImageData
from train_smarter.errors import UserError
from train_smarter.fit.backbone import Backbone
from train_smarter.fit.finetuning import split_blocks
from train_smarter.fit.timm_model import Timm
from train_smarter.fit.torchvision_model import Torchvision
from train_smarter.task.base import Task
from train_smarter.task.classification import Classification
from train_smarter.task.language_model import LanguageModel
from train_smarter.task.regression import Regression
from train_smarter.task.segmentation import Segmentation

SMALL = "shufflenet_v2_x0_5"
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class Noise(ImageData):
    def __init__(self, channels: int = 3, **data: Any) -> None:
        super().__init__(num_classes=3, shape=[channels, 32, 32], **data)

    def read(self) -> RawDataset:
        images = torch.randint(0, 256, (6, self.shape[0], 32, 32), dtype=torch.uint8)
        return RawDataset(list("abc"), *[Examples(images, torch.arange(6) % 3)] * 3)


def network(name: str = SMALL, *, task: Task | None = None, channels: int = 3, **options: Any) -> Torchvision:
    chosen = task or Classification(num_classes=3)
    return Torchvision(name=name, shape=[channels, 32, 32], task=chosen, optimizer=partial(SGD, lr=0.0), **options)


def started(model: Backbone, data: ImageData | None = None) -> Backbone:
    """The model after a training that changes nothing but the statistics of norms."""
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = lightning.Trainer(accelerator="cpu", enable_checkpointing=False, max_steps=1, max_epochs=-1, **options)
    fit(Components(data or Noise(model.channels), model, trainer), monitor="val/loss", test=False)
    return model


@pytest.fixture(scope="module")
def given() -> nn.Module:
    """torchvision's network with random weights."""
    torch.manual_seed(7)
    found: nn.Module = models.get_model(SMALL, weights=None)
    return found


# ---- tasks and sizes


@pytest.mark.parametrize(
    ("task", "outputs"),
    [(Classification(num_classes=3), 3), (Classification(num_classes=2), 1), (Regression(num_targets=4), 4)],
)
def test_the_head_has_the_outputs_that_the_task_needs(task: Task, outputs: int) -> None:
    assert network(task=task)(torch.rand(2, 3, 32, 32)).shape == (2, outputs)


@pytest.mark.parametrize("name", [SMALL, "mobilenet_v3_small", "squeezenet1_1", "regnet_y_400mf", "mnasnet0_5"])
def test_masks_get_one_output_a_pixel_and_every_weight_gets_a_gradient(name: str) -> None:
    model = network(name, task=Segmentation(num_classes=4, output_per="pixel"))
    outputs = model(torch.rand(2, 3, 32, 32))
    assert outputs.shape == (2, 4, 32, 32)
    outputs.square().sum().backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_any_channels_fit(channels: int) -> None:
    assert network(channels=channels)(torch.rand(2, channels, 32, 32)).shape == (2, 3)


def test_a_network_of_one_size_names_it_and_scales_images_to_it() -> None:
    with pytest.raises(
        UserError, match=r"vit_b_32 takes images of 224x224 pixels, .* 32x32: type model.input_size=224"
    ):
        network("vit_b_32")
    with pytest.raises(UserError, match=r"squeezenet1_1 takes images of at least 17x17 .* type model.input_size=17"):
        Torchvision(name="squeezenet1_1", shape=[3, 9, 9], task=Classification(num_classes=3))
    assert network(input_size=64)(torch.rand(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "resnet19"}, r"model.name=resnet19: torchvision has no such .*; did you mean 'resnet1"),
        ({"name": "swin_t", "task": Segmentation(num_classes=2, output_per="pixel")}, "makes no feature maps"),
        ({"task": LanguageModel(vocab_size=3, output_per="token")}, "needs one a token: give another model"),
    ],
)
def test_what_a_network_cannot_do_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        network(**options)


def test_a_residual_network_has_a_block_for_each_of_its_own() -> None:
    blocks = [f"backbone.layer{stage}.{number}" for stage in range(1, 5) for number in range(2)]
    assert [block.name for block in split_blocks(network("resnet18"))] == ["backbone.conv1", *blocks, "head"]


# ---- weights


def features(network: nn.Module, images: Tensor) -> Tensor:
    """What torchvision's network computes before its classifier."""
    found = list[Tensor]()
    hook = network.fc.register_forward_hook(lambda _m, inputs, _o: found.append(inputs[0]))  # type: ignore[union-attr]
    network.eval()(images)
    hook.remove()
    return found[0]


@pytest.mark.parametrize("form", ["pth", "safetensors", "wrapped"])
def test_a_file_of_weights_gives_the_features_of_the_network_that_saved_it(
    form: str, given: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file, state = tmp_path / f"weights.{form.replace('wrapped', 'pt')}", given.state_dict()
    if form == "safetensors":
        save_file(state, file)
    else:
        wrapped = {"epoch": 3, "model": {f"module.{name}": value for name, value in state.items()}}
        torch.save(wrapped if form == "wrapped" else state, file)
    model = started(network(pretrained=str(file), freeze="backbone"))
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(model.eval().features(images), features(given, images), atol=1e-5)
    prefix = "module." if form == "wrapped" else ""
    backbone = len(state) - 2  # all but the classifier
    assert f"{backbone} of {backbone + 2} weights start from {file}" in caplog.text
    assert "not in the file, so at random: head.1.weight, head.1.bias" in caplog.text
    (alone,) = [line for line in caplog.text.splitlines() if "in the file alone: " in line]
    assert set(alone.partition(": ")[2].split(", ")) == {f"{prefix}fc.weight", f"{prefix}fc.bias"}


@pytest.mark.parametrize("channels", [1, 6])
def test_filters_for_other_channels_answer_a_grey_image_as_before(
    channels: int, given: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    torch.save(given.state_dict(), tmp_path / "weights.pth")
    model = started(network(channels=channels, pretrained=str(tmp_path / "weights.pth"), freeze="backbone"))
    grey = torch.rand(2, 1, 32, 32)
    mine = model.eval().features(grey.expand(2, channels, 32, 32))
    assert torch.allclose(mine, features(given, grey.expand(2, 3, 32, 32)), atol=1e-5)
    told = "added up to 1" if channels == 1 else "repeated for 6"
    assert f"backbone.conv1.0.weight: its 3 input channels are {told}" in caplog.text


def test_images_get_the_normalization_of_the_published_weights(given: nn.Module, tmp_path: Path) -> None:
    torch.save(given.state_dict(), file := tmp_path / "weights.pth")
    for whose, mean in (("weights", IMAGENET["mean"]), ("data", [0.5] * 3)):
        started(network(pretrained=str(file), normalization=whose), data := Noise())
        assert data.mean == mean
    started(network(channels=1, pretrained=str(file)), data := Noise(1))
    assert data.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
    started(network(), data := Noise())
    assert data.mean == [0.5] * 3, "weights at random know no normalization"


def test_a_checkpoint_needs_no_published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Torchvision, "library_weights", lambda _: pytest.fail("weights were looked for"))
    options: dict[str, Any] = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False}
    trainer = lightning.Trainer(accelerator="cpu", max_steps=1, max_epochs=-1, enable_checkpointing=False, **options)
    trainer.fit(network(), datamodule=Noise())
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    content = torch.load(tmp_path / "model.ckpt", weights_only=True)
    content["hyper_parameters"]["pretrained"] = True
    torch.save(content, tmp_path / "model.ckpt")
    model = Torchvision.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert model.pretrained is True


def test_published_weights_of_this_machine_need_no_download(
    given: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("a request was sent"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"are not on this machine .*: type model\.pretrained=true yourself"):
        started(network(pretrained=True))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    name = models.get_model_weights(SMALL).DEFAULT.url.rpartition("/")[2]
    torch.save(given.state_dict(), tmp_path / "hub" / "checkpoints" / name)
    model = started(network(pretrained=True, freeze="backbone"))
    assert model.state_dict()["backbone.conv1.0.weight"].equal(given.state_dict()["conv1.0.weight"])


def test_weights_that_cannot_be_downloaded_are_named_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    told = r"cannot be downloaded from https://\S+\.pth: no route to host; .*model\.pretrained=FILE"
    with pytest.raises(UserError, match=told):
        started(network(pretrained=True, download=True))


def test_a_file_that_holds_code_is_refused_with_a_way_out(given: nn.Module, tmp_path: Path) -> None:
    torch.save(given, tmp_path / "whole.pt")
    with pytest.raises(
        UserError, match=r"it holds torchvision\.models\S+, which is code.*torch\.save\(model\.state_dict"
    ):
        started(network(pretrained=str(tmp_path / "whole.pt")))


def test_weights_of_another_network_are_refused_with_both_names(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"no weight that fits Torchvision: its weights are a.weight, and those of the"):
        started(network(pretrained=str(tmp_path / "other.pth")))


def test_a_densenet_of_an_older_version_has_its_weights_by_todays_names() -> None:
    old = {"features.denseblock1.denselayer2.norm.1.weight": torch.zeros(1)}
    assert list(network().adapt_names(old)) == ["features.denseblock1.denselayer2.norm1.weight"]


# ---- timm


@pytest.mark.parametrize("name", ["hf-hub:org/model", "hf_hub:org/model", "local-dir:/tmp", "timm/resnet18", "a b"])
def test_a_name_that_is_an_address_is_refused_before_anything_is_asked(name: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UserError, match="give the name of a network of timm"):
        Timm(name=name, shape=[3, 32, 32], task=Classification(num_classes=3))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_of_timm_takes_its_own_weights_from_a_file(channels: int, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    given = timm.create_model("resnet10t", pretrained=False)
    torch.save(given.state_dict(), tmp_path / "weights.pth")
    options: dict[str, Any] = {"optimizer": partial(SGD, lr=0.0), "freeze": "backbone", "shape": [channels, 32, 32]}
    task = Classification(num_classes=3)
    model = started(Timm(name="resnet10t", task=task, pretrained=str(tmp_path / "weights.pth"), **options))
    grey = torch.rand(2, 1, 32, 32)
    expected = given.eval().forward_head(given.forward_features(grey.expand(2, 3, 32, 32)), pre_logits=True)
    assert torch.allclose(model.eval().features(grey.expand(2, channels, 32, 32)), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_a_network_of_timm_gives_one_output_a_pixel(name: str) -> None:
    pytest.importorskip("timm")
    task = Segmentation(num_classes=4, output_per="pixel")
    model = Timm(name=name, shape=[3, 32, 32], task=task, input_size=224 if "vit" in name else None)
    outputs = model(torch.rand(2, 3, 32, 32))
    assert outputs.shape == (2, 4, 32, 32)
    outputs.square().sum().backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_a_network_that_timm_does_not_have_is_answered_with_the_nearest_name() -> None:
    pytest.importorskip("timm")
    with pytest.raises(UserError, match="timm has no such network; did you mean 'resnet18'"):
        Timm(name="resnet18x", shape=[3, 32, 32], task=Classification(num_classes=3))
