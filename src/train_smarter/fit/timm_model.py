"""The networks of timm, the extra `timm`."""

import re
from collections.abc import Mapping
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from train_smarter.data.hub import offline
from train_smarter.errors import UserError, did_you_mean, first_paragraph
from train_smarter.fit.backbone import Backbone


class Timm(Backbone):
    """A network of timm by its name, for example resnet18 or convnext_nano.in12k_ft_in1k, with the tag of its weights.

    Names that are addresses (hf-hub:..., local-dir:...) are refused: timm would read from there what to build.
    """

    library = "timm"

    def make_network(self) -> nn.Module:
        network: nn.Module = _create(self.name, num_classes=0, in_chans=self.channels)
        if self.per_pixel:
            if not hasattr(network, "forward_intermediates"):
                raise UserError(
                    f"model.name={self.name} makes no feature maps, which a task of pixels needs: give another "
                    "network, for example model.name=resnet18"
                )
            network.prune_intermediate_layers(None, prune_norm=True)  # type: ignore[operator]  # they would get no gradients
        return network

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        found: list[Tensor] = self.backbone.forward_intermediates(images, intermediates_only=True)  # type: ignore[operator]
        maps = {part.shape[2]: part for part in found}  # by height: the last one of each
        return list(maps.values())

    def smallest_size(self) -> int | None:
        size = self._weights().get("input_size")
        return int(min(size[1:])) if size and self.has_fixed_size() else None

    def has_fixed_size(self) -> bool:
        return hasattr(self.backbone, "patch_embed")

    # ---- pretrained weights

    def _weights(self) -> dict[str, Any]:
        return dict(self.backbone.pretrained_cfg)  # type: ignore[arg-type]

    def published(self) -> Mapping[str, Any]:
        known = self._weights()
        return {"mean": known["mean"], "std": known["std"], "size": known["input_size"][-1]} if "mean" in known else {}

    def library_weights(self) -> tuple[dict[str, Tensor], str]:
        known = self._weights()
        place = known.get("hf_hub_id") or known.get("url")
        if not place:
            raise UserError(
                f"model.pretrained=true: timm has no weights of {self.name}; give a name with them "
                "(timm.list_models(pretrained=True) lists them), or a file, model.pretrained=FILE"
            )
        if not self.may_download and not known.get("hf_hub_id"):
            file = Path(torch.hub.get_dir()) / "checkpoints" / str(place).rpartition("/")[2]
            if not file.is_file():
                raise UserError(self.not_here(str(file)))
        try:
            with nullcontext() if self.may_download else offline():
                network = _create(self.name, pretrained=True, num_classes=0, in_chans=self.channels)
        except UserError:
            raise
        except Exception as error:  # of the hub, of urllib, of timm
            if not self.may_download:
                raise UserError(self.not_here(f"{place} in the cache of huggingface_hub")) from error
            raise UserError(
                f"model.pretrained=true: the weights of {self.name} cannot be downloaded from {place}: "
                f"{first_paragraph(error)[:200]}; download them elsewhere, and type model.pretrained=FILE"
            ) from error
        return network.state_dict(), f"the weights of {self.name} in timm ({place})"


def _create(name: str, **options: Any) -> Any:
    try:
        timm = import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise UserError("model=timm needs a package that is not installed: uv pip install -e '.[timm]'") from error
    known = timm.list_models()
    if not re.fullmatch(r"\w+(\.\w+)?", name):
        raise UserError(
            f"model.name={name}: give the name of a network of timm, for example resnet18; weights from elsewhere are "
            "a file, model.pretrained=FILE"
        )
    base = name.partition(".")[0]
    if base not in known:
        raise UserError(
            f"model.name={name}: timm has no such network{did_you_mean(base, known)}; timm.list_models('*part*') lists "
            "those with a part in their name"
        )
    try:
        return timm.create_model(name, **options)
    except RuntimeError as error:
        if "Invalid pretrained tag" not in str(error):
            raise
        tags = [one.partition(".")[2] for one in timm.list_pretrained(base)]
        raise UserError(f"model.name={name}: the weights of {base} have the tags {', '.join(tags)}") from error
