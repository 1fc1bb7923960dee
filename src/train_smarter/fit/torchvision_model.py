"""The classification networks of torchvision."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from train_smarter.errors import UserError, did_you_mean
from train_smarter.fit.backbone import Backbone, last_linear, replace, replace_first_convolution, trunk

# Networks whose layers fit images of one size alone.
FIXED_SIZE = ("vit_", "maxvit_")
# Networks whose layers give no maps (B, D, H/s, W/s) one after the other.
NO_MAPS = ("vit_", "swin_")


class Torchvision(Backbone):
    """A classification network of `torchvision.models` by its name, for example resnet18."""

    library = "torchvision"

    def make_network(self) -> nn.Module:
        known = models.list_models(module=models)
        if self.name not in known:
            raise UserError(
                f"model.name={self.name}: torchvision has no such classification network; give one of "
                f"{', '.join(known)}{did_you_mean(self.name, known)}"
            )
        # Their second heads are for training from scratch; the other option silences a warning.
        options = {"aux_logits": False, "init_weights": False} if self.name in ("googlenet", "inception_v3") else {}
        network: nn.Module = models.get_model(self.name, weights=None, **options)
        if options and self.channels == 3:
            vars(network)["transform_input"] = (
                True  # their weights were trained with another normalization than all others
            )
        replace_first_convolution(network, self.channels)
        if self.per_pixel:
            self._remove_classifier(network)
        else:
            replace(network, last_linear(network), nn.Identity())
        return network

    def _remove_classifier(self, network: nn.Module) -> None:
        """All that is not needed for feature maps: it would get no gradients."""
        if self.name.startswith(NO_MAPS):
            raise UserError(
                f"model.name={self.name} makes no feature maps of several sizes, which a task of pixels needs: give a "
                "convolutional network, for example model.name=resnet18"
            )
        used = {name.partition(".")[0] for name, _ in trunk(network)}
        for name, child in network.named_children():
            if name not in used and next(child.parameters(), None) is not None:
                setattr(network, name, nn.Identity())

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        transform = getattr(self.backbone, "_transform_input", None)
        features = images if transform is None else transform(images)
        maps: dict[int, Tensor] = {}  # by height: the last one of each
        for _, layer in trunk(self.backbone):
            features = layer(features)
            maps[features.shape[2]] = features
        return list(maps.values())

    def smallest_size(self) -> int | None:
        meta = self._weights().meta
        return int(min(meta["min_size"])) if "min_size" in meta else None

    def has_fixed_size(self) -> bool:
        return self.name.startswith(FIXED_SIZE)

    # ---- pretrained weights

    def _weights(self) -> Any:
        return models.get_model_weights(self.name).DEFAULT

    def published(self) -> Mapping[str, Any]:
        transform = self._weights().transforms()
        return {"mean": transform.mean, "std": transform.std, "size": transform.crop_size[0]}

    def library_weights(self) -> tuple[dict[str, Tensor], str]:
        weights = self._weights()
        file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
        if not self.may_download and not file.is_file():
            raise UserError(self.not_here(str(file)))
        try:
            loaded = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        except OSError as error:  # of urllib, too
            raise UserError(
                f"model.pretrained=true: the weights of {self.name} cannot be downloaded from {weights.url}: "
                f"{getattr(error, 'reason', error)}; download this file elsewhere, and type model.pretrained=FILE"
            ) from error
        except RuntimeError as error:  # a checksum
            raise UserError(f"model.pretrained=true: {error}; delete {file}, and try again") from error
        return dict(loaded), f"{weights} of torchvision"

    def adapt_names(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The file of a DenseNet has names of an older version."""
        pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
        return {pattern.sub(r"\1\2", name): value for name, value in given.items()}
