"""Networks of a library, with a head for the task. What differs between libraries is in their own files."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train_smarter.errors import UserError
from train_smarter.fit.module import Model

log = logging.getLogger(__name__)

DECODER = 64  # features of a pixel in the decoder of a segmentation


class Backbone(Model):
    """A library's network without its classifier, and a head: a linear layer, or for a task of pixels a small decoder.

    Images (B, C, H, W) -> outputs (B, K), or (B, K, H, W). A subclass implements `make_network` and `feature_maps`, and
    what a library knows of its weights.

    Args:
        name: of the network, in its library.
        shape: [C, H, W]; with other than three channels, the first convolution is another one, and pretrained filters
            are added up or repeated for it.
        input_size: height and width in pixels to which images are scaled first; None: they stay as they are.
        dropout: share of the features dropped in training before the last layer.
        normalization: whose mean and std images get with published weights: "weights" (those that these were trained
            with) or "data" (those of the data's config).
        download: fetch published weights that are not on this machine.
    """

    library: str  # as in messages

    def __init__(
        self,
        *,
        name: str,
        shape: Sequence[int],
        input_size: int | None = None,
        dropout: float = 0.0,
        normalization: str = "weights",
        download: bool = False,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        self.name, self.channels, self.image_size, self.input_size = name, shape[0], tuple(shape[1:]), input_size
        self.normalization, self.may_download = normalization, download
        self.per_pixel = self._output_per() == "pixel"
        self.backbone = self.make_network()
        size = [input_size, input_size] if input_size else list(shape[1:])
        widths = self._measure([shape[0], *size])
        self.head: nn.Module
        if self.per_pixel:
            self.head = Decoder(widths, self.num_outputs, dropout)
        else:
            self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[0], self.num_outputs))
        self.to(memory_format=torch.channels_last)  # the layout in which convolutions are fastest

    def forward(self, images: Tensor) -> Tensor:
        size = images.shape[-2:]
        if self.input_size:
            images = F.interpolate(images, (self.input_size, self.input_size), mode="bilinear")
        if not self.per_pixel:
            logits: Tensor = self.head(self.features(images))
            return logits
        return F.interpolate(self.head(self.feature_maps(images)), size, mode="bilinear")

    # ---- what a library adds

    def make_network(self) -> nn.Module:
        """The network with random weights and without its classifier."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        features: Tensor = self.backbone(images)
        return features

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> maps (B, D, H/s, W/s), from the largest to the smallest."""
        raise NotImplementedError

    def smallest_size(self) -> int | None:
        """Height and width in pixels of the smallest images that the network takes; None: unknown."""
        raise NotImplementedError

    def has_fixed_size(self) -> bool:
        """Whether it takes images of the smallest size alone."""
        raise NotImplementedError

    def not_here(self, place: str) -> str:
        """The answer where weights may not be downloaded."""
        return (
            f"model.pretrained=true: the weights of {self.name} are not on this machine ({place}), and model.download="
            "false, as it is where only a run's config names them: type model.pretrained=true yourself, or give a file"
        )

    def published(self) -> Mapping[str, Any]:
        """What is known of the published weights: "mean", "std", "size"; empty where there are none."""
        raise NotImplementedError

    # ---- pretrained weights

    def setup(self, stage: str) -> None:
        super().setup(stage)
        own, size = self.published().get("size"), self.input_size or min(self.image_size)
        if stage == "fit" and self.pretrained and own and size < own / 2:
            log.info(
                "%s was trained on images of %dx%d pixels, and these have %dx%d: larger ones suit its weights better, "
                "with data.size=... or model.input_size=%d",
                *(self.name, own, own, size, size, own),
            )

    def weights_normalization(self) -> dict[str, Any] | None:
        known = self.published() if self.normalization == "weights" else {}
        if not known:
            return None
        if self.channels == len(known["mean"]):
            return {key: list(known[key]) for key in ("mean", "std")}
        return {key: [sum(known[key]) / len(known[key])] * self.channels for key in ("mean", "std")}

    def adapt_weight(self, name: str, given: Tensor, own: Tensor) -> tuple[Tensor, str]:
        """Filters of the first convolution for another number of channels: repeated, and their sum as it was."""
        others = [size for place, size in enumerate(own.shape) if place != 1]
        if own.ndim != 4 or own.shape[1] != self.channels or others != [s for d, s in enumerate(given.shape) if d != 1]:
            return given, ""
        channels = given.shape[1]
        if own.shape == given.shape or name != self._first_convolution():
            return given, ""
        if self.channels == 1:
            return given.sum(1, keepdim=True), f"{name}: its {channels} input channels are added up to 1"
        repeats = -(-self.channels // channels)
        repeated = given.repeat(1, repeats, 1, 1)[:, : self.channels] * (channels / self.channels)
        return repeated, f"{name}: its {channels} input channels are repeated for {self.channels}"

    def _first_convolution(self) -> str:
        return next(f"{name}.weight" for name, part in self.named_modules() if isinstance(part, nn.Conv2d))

    # ---- sizes

    def _output_per(self) -> str:
        """What the task needs an output vector for."""
        needed = self.task.hparams.get("output_per") or "example"
        if needed not in ("example", "pixel"):
            raise UserError(
                f"model.name={self.name}: a network of {self.library} returns one output vector an example or a "
                f"pixel, but {type(self.task).__name__} needs one a {needed}: give another model=... or task=..."
            )
        return str(needed)

    def _measure(self, shape: Sequence[int]) -> list[int]:
        """Features of the network, or of each of its maps, for images of a shape.

        Raises:
            UserError: the network does not take such images.
        """
        mode, self.backbone = self.backbone.training, self.backbone.eval()
        try:
            with torch.no_grad():
                images = torch.zeros(1, *shape)
                found = self.feature_maps(images) if self.per_pixel else [self.features(images)]
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            raise UserError(self._why_no_size(shape[1:], error)) from error
        finally:
            self.backbone.train(mode)
        return [part.shape[1] for part in found]

    def _why_no_size(self, size: Sequence[int], error: Exception) -> str:
        first, least = (str(error).splitlines() or [type(error).__name__])[0], self.smallest_size()
        if least and (min(size) < least or (self.has_fixed_size() and set(size) != {least})):
            wanted = f"takes images of {'' if self.has_fixed_size() else 'at least '}{least}x{least} pixels"
            return (
                f"model.name={self.name} {wanted}, and these have {size[0]}x{size[1]}: type model.input_size={least}, "
                f"to which each batch is scaled, or data.size={least} where the data have it"
            )
        return f"model.name={self.name} takes no images of {size[0]}x{size[1]} pixels: {first}"


class Decoder(nn.Module):
    """Maps (B, D, H/s, W/s), from the largest to the smallest -> outputs (B, K, h, w) of the largest map's size.

    From the smallest upwards, each map is brought to DECODER features and added to the one before, doubled in size.
    Source: Lin et al., Feature Pyramid Networks, 2017.

    Args:
        widths: D of each map.
    """

    def __init__(self, widths: Sequence[int], num_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(width, DECODER, 1) for width in widths])
        self.smooth = nn.Sequential(
            nn.Conv2d(DECODER, DECODER, 3, padding=1, bias=False),
            nn.BatchNorm2d(DECODER),
            nn.ReLU(),
            nn.Dropout2d(dropout),
            nn.Conv2d(DECODER, num_outputs, 1),
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        outputs: Tensor | None = None
        for lateral, given in zip(reversed(self.lateral), reversed(maps), strict=True):
            part = lateral(given)
            if outputs is not None:
                part = part + F.interpolate(outputs, part.shape[-2:])
            outputs = part
        result: Tensor = self.smooth(outputs)
        return result


def last_linear(network: nn.Module) -> str:
    """The name of the classifier: the last linear layer, or the last 1x1 convolution where there is none."""
    for kind in (nn.Linear, nn.Conv2d):
        names: list[str] = [name for name, part in network.named_modules() if isinstance(part, kind)]
        if names:
            return names[-1]
    raise UserError(f"{type(network).__name__} has no linear layer")


def replace(network: nn.Module, name: str, part: nn.Module) -> None:
    """Put another module in a module's place."""
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, part)


def replace_first_convolution(network: nn.Module, channels: int) -> None:
    """Let a network take images of another number of channels."""
    for name, part in network.named_modules():
        if isinstance(part, nn.Conv2d):
            if part.in_channels != channels:
                other = nn.Conv2d(
                    channels,
                    part.out_channels,
                    part.kernel_size,  # type: ignore[arg-type]
                    part.stride,  # type: ignore[arg-type]
                    part.padding,  # type: ignore[arg-type]
                    bias=part.bias is not None,
                )
                replace(network, name, other)
            return


def trunk(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that make feature maps, in their order: those of `features`, or all up to the pooling."""
    features = getattr(network, "features", None)
    start, root = ("features.", features) if isinstance(features, nn.Module) else ("", network)
    for name, child in root.named_children():
        if isinstance(child, nn.AdaptiveAvgPool2d | nn.Linear | nn.Dropout) or name == "classifier":
            return
        if type(child) in (nn.Sequential, nn.ModuleList):
            yield from ((f"{start}{name}.{inner}", part) for inner, part in child.named_children())
        else:
            yield f"{start}{name}", child
