"""Measure layers, activations and inputs while a model trains."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from train_smarter.data.rows import Rows

SAMPLED_EXAMPLES = 2000  # examples of a split by which its inputs are judged
# Fewer, of which a mean is still known to a sixteenth of a standard deviation, where 2,000 would delay the first step:
# of files that are decoded when they are read, and of large images.
FEWEST_EXAMPLES = 256
SAMPLED_BYTES = 2**26
PIECE_BYTES = 2**22  # of images whose floats, four times as large, are in memory at once
MAX_CALLS = 4  # of a ReLU, a batch each
COMMON_TOKENS = 200  # words whose shares are compared


# ---- layers


def layers_of(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The trained weights of each module that has some of its own; biases and norms, of one dimension, are left out.

    Embeddings are, too: only the few rows of a batch's words have a gradient.
    """
    found = {
        name: [p for p in module.parameters(recurse=False) if p.requires_grad and p.ndim > 1]
        for name, module in model.named_modules()
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag)
    }
    return {name: weights for name, weights in found.items() if weights}


def layer_norms(layers: Mapping[str, Sequence[Tensor]]) -> Tensor:
    """(L,): the Euclidean norm of each layer's tensors together; nothing is read back from the device."""
    flat = torch.stack(torch._foreach_norm([tensor for tensors in layers.values() for tensor in tensors]))
    parts = flat.square().split([len(tensors) for tensors in layers.values()])
    return torch.stack([part.sum() for part in parts]).sqrt()


@contextmanager
def record_relu_activity(model: nn.Module, fired: dict[str, Tensor]) -> Iterator[None]:
    """Every ReLU notes in `fired` which of its units let anything through, in its first calls: (D,) bool by name."""
    calls: dict[str, int] = {}

    def note(name: str, output: Tensor) -> None:
        unit = 1 if output.ndim in (2, 4) else output.ndim - 1  # channels of an image, else features
        if name in fired and len(fired[name]) != output.shape[unit]:
            name = f"{name} of {output.shape[unit]}"  # one ReLU behind several layers
        calls[name] = calls.get(name, 0) + 1
        if calls[name] > MAX_CALLS:
            return
        others = [dim for dim in range(output.ndim) if dim != unit]
        seen = (output.detach() > 0).any(others[0]) if len(others) == 1 else (output.detach() > 0).sum(others) > 0
        fired[name] = fired[name] | seen if name in fired else seen

    hooks = [
        module.register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
        for name, module in model.named_modules()
        if isinstance(module, nn.ReLU)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


# ---- a loss that is no number


def locate_nan(model: nn.Module, inputs: Any) -> str:
    """Where numbers end: in the inputs, in a weight, in what a module makes of sound inputs, or in the loss itself.

    inputs: a tensor, or a dict or tuple of some.
    """
    for part in tree_leaves(inputs):
        if not isinstance(part, Tensor) or not part.is_floating_point() or not part.ndim:
            continue
        if not (sound := part.isfinite().reshape(len(part), -1).all(1)).all():
            return f"inputs of the batch (examples {', '.join(map(str, torch.nonzero(~sound).flatten().tolist()[:5]))})"
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"weights of {name}"
    return _first_nan_output(model, inputs) or "loss"


def _first_nan_output(model: nn.Module, inputs: Any) -> str | None:
    found: list[str] = []

    def look(name: str, output: Any) -> None:
        tensors = output if isinstance(output, tuple) else (output,)
        if any(isinstance(t, Tensor) and t.is_floating_point() and not t.isfinite().all() for t in tensors):
            found.append(name)

    hooks = [
        module.register_forward_hook(lambda _m, _i, output, name=name: look(name, output))
        for name, module in model.named_modules()
        if name and not list(module.children())
    ]
    try:
        with torch.no_grad(), suppress(Exception):  # a module of one's own may take other arguments
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return f"output of {found[0]}" if found else None


# ---- training against validation


def measure_shift(train: Any, val: Any, *, texts: bool = False) -> dict[str, float]:
    """How far validation inputs lie from training inputs, by feature; see `Measurements.shift`.

    Args:
        train, val: uint8 images (N, C, H, W), or a dict or tuple with some; tokens (N, T). Of other inputs, no feature
            is known.
        texts: the inputs are tokens, with 0 for padding and 1 for unknown words, or `TokenRows`.
    """
    if texts:
        return _token_distance(_token_ids(_sample(train)), _token_ids(_sample(val)))
    train, val = (next(filter(_are_images, tree_leaves(inputs)), None) for inputs in (train, val))
    if train is None or val is None:
        return {}
    return _statistic_distances(_image_statistics(train), _image_statistics(val))


def _are_images(part: Any) -> bool:
    return isinstance(part, Tensor | Rows) and part.ndim == 4 and part.dtype == torch.uint8


def _sampled(inputs: Tensor | Rows) -> Tensor:
    """(n,) int64: examples that are evenly spread over the split."""
    most = SAMPLED_BYTES // max(1, math.prod(inputs.shape[1:]) * inputs.dtype.itemsize)
    if isinstance(inputs, Rows) and inputs.slow:
        most = FEWEST_EXAMPLES
    step = max(1, len(inputs) // min(SAMPLED_EXAMPLES, max(FEWEST_EXAMPLES, most)))
    return torch.arange(0, len(inputs), step)


def _sample(inputs: Tensor | Rows) -> Any:
    index = _sampled(inputs)
    return inputs[index] if isinstance(inputs, Tensor) else inputs.read(index)


def _token_ids(sample: Any) -> Tensor:
    """Ids (N, T), 0 = padding and 1 = unknown; those of a pretrained tokenizer are moved beyond both."""
    return sample.long() if isinstance(sample, Tensor) else (sample["input_ids"] + 2) * sample["attention_mask"]


def _image_statistics(images: Tensor | Rows) -> dict[str, Tensor]:
    """Features of some of the images: (n,) each."""
    size = max(1, PIECE_BYTES // max(1, math.prod(images.shape[1:])))
    pieces = [
        _piece_statistics(images[index] if isinstance(images, Tensor) else images.read(index))
        for index in _sampled(images).split(size)
    ]
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def _piece_statistics(images: Tensor) -> dict[str, Tensor]:
    """Features of each image: (N,) each."""
    pixels = images.float() / 255
    features = {f"mean of channel {i}": pixels[:, i].mean((1, 2)) for i in range(pixels.shape[1])}
    features |= {f"contrast of channel {i}": pixels[:, i].std((1, 2)) for i in range(pixels.shape[1])}
    features["sharpness"] = pixels.diff(dim=3).abs().mean((1, 2, 3))
    for i in range(pixels.shape[1] - 1):
        features[f"channel {i} less {i + 1}"] = (pixels[:, i] - pixels[:, i + 1]).mean((1, 2))
    return features


def _statistic_distances(train: Mapping[str, Tensor], val: Mapping[str, Tensor]) -> dict[str, float]:
    return {
        name: float((values.mean() - val[name].mean()).abs() / values.std().clamp(min=1e-6))
        for name, values in train.items()
    }


def _token_distance(train: Tensor, val: Tensor) -> dict[str, float]:
    lengths = {"length": (train > 0).float().sum(1)}, {"length": (val > 0).float().sum(1)}
    ids = int(max(train.max(), val.max())) + 2
    known = [tokens[tokens > 0].bincount(minlength=ids).float() for tokens in (train, val)]
    ours, theirs = (counts / counts.sum().clamp(min=1) for counts in known)
    common = torch.cat([torch.tensor([1]), ours[2:].argsort(descending=True)[:COMMON_TOKENS] + 2])
    return _statistic_distances(*lengths) | {"shares of words": float((ours - theirs)[common].abs().sum() / 2)}
