"""Cut a random box out of each image of a batch and scale it to one size: torchvision's `RandomResizedCrop`.

Nothing here waits for a GPU: no number is read back from it and no shape depends on the data.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ATTEMPTS = 10  # at a box that fits into the image


def sample_boxes(
    images: Tensor, generator: torch.Generator, *, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Draw boxes: (B, 4) int64, of each the top row, the left column, height and width.

    Args:
        images: (B, C, H, W).
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest width / height, even on a logarithmic scale.
    """
    boxes, found = draw_boxes(images, generator, scale=scale, ratio=ratio)
    height, width = images.shape[2:]
    rows, columns = _middle_box(height, width, ratio)
    middle = ((height - rows) // 2, (width - columns) // 2, rows, columns)
    return torch.stack([part.where(found, other) for part, other in zip(boxes.unbind(1), middle, strict=True)], 1)


def draw_boxes(
    images: Tensor,
    generator: torch.Generator,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    margin: int = 0,
) -> tuple[Tensor, Tensor]:
    """Draw boxes as `sample_boxes` does: (B, 4) int64; and whether one of the attempts at each fits, (B,) bool.

    Args:
        margin: pixels by which height and width have to be smaller than the image's.
    """
    height, width = images.shape[2:]
    drawn = torch.rand(len(images), 2 * ATTEMPTS + 2, generator=generator, device=images.device)
    area = drawn[:, :ATTEMPTS].mul(scale[1] - scale[0]).add(scale[0]).mul(height * width)
    narrowest, widest = map(math.log, ratio)
    aspect = drawn[:, ATTEMPTS:-2].mul(widest - narrowest).add(narrowest).exp()
    heights, widths = (area / aspect).sqrt().round().long(), (area * aspect).sqrt().round().long()  # (B, ATTEMPTS)
    fits = (heights > 0) & (heights <= height - margin) & (widths > 0) & (widths <= width - margin)
    place = torch.arange(ATTEMPTS, device=images.device).where(fits, ATTEMPTS).amin(1, keepdim=True)
    chosen = []
    for sides, side, where in ((heights, height, -2), (widths, width, -1)):
        length = sides.gather(1, place.clamp(max=ATTEMPTS - 1))[:, 0]
        room = side - length
        start = torch.minimum((drawn[:, where] * (room + 1)).long(), room)  # a product may be rounded up to room + 1
        chosen.append((start, length))
    return torch.stack([chosen[0][0], chosen[1][0], chosen[0][1], chosen[1][1]], 1), place[:, 0] < ATTEMPTS


def _middle_box(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest box of an allowed ratio."""
    if width / height < ratio[0]:
        return min(height, round(width / ratio[0])), width
    if width / height > ratio[1]:
        return height, min(width, round(height * ratio[1]))
    return height, width


def resize_boxes(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The boxes of images (B, C, H, W), scaled to `size` with antialiasing, bilinear; in the images' type.

    On a CPU one image after the other, bit for bit as torchvision does it. On other devices as two products of
    matrices, which differ from that by at most one step of 255.
    """
    if images.device.type == "cpu":
        resized = images.new_empty(len(images), images.shape[1], *size).to(memory_format=torch.channels_last)
        for image, new, (top, left, height, width) in zip(images.split(1), resized, boxes.tolist(), strict=True):
            box = image[:, :, top : top + height, left : left + width]
            new.copy_(F.interpolate(box, size=size, mode="bilinear", antialias=True)[0])
        return resized
    return resize_by_matrices(images, boxes, size)


def resize_by_matrices(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """See `resize_boxes`."""
    top, left, height, width = boxes.unbind(1)
    down = _triangle_weights(top, height, images.shape[2], size[0])[:, None]  # (B, 1, h, H)
    across = _triangle_weights(left, width, images.shape[3], size[1])[:, None]  # (B, 1, w, W)
    resized = down @ images.float() @ across.mT
    return resized if images.is_floating_point() else resized.round_().clamp_(0, 255).to(images.dtype)


def _triangle_weights(start: Tensor, length: Tensor, old: int, new: int) -> Tensor:
    """(B, new, old): the share of each old pixel in each new one, of a piece that is scaled to `new` pixels.

    start, length: (B,), the piece.
    """
    step = (length / new).view(-1, 1, 1)
    pixel = torch.arange(old, device=start.device).view(1, 1, -1) + 0.5 - start.view(-1, 1, 1)
    center = (torch.arange(new, device=start.device).view(1, -1, 1) + 0.5) * step
    weights = (1 - (pixel - center).abs() / step.clamp(min=1)).clamp_(min=0)
    weights = weights * ((pixel > 0) & (pixel < length.view(-1, 1, 1)))
    return weights / weights.sum(2, keepdim=True)


def pick_boxes(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The boxes of masks (B, C, H, W), scaled to `size` by the nearest pixel."""
    top, left, height, width = boxes.unbind(1)
    row = top[:, None] + _nearest(height, size[0])  # (B, h)
    column = left[:, None] + _nearest(width, size[1])  # (B, w)
    image = torch.arange(len(masks), device=masks.device).view(-1, 1, 1)
    return masks.permute(0, 2, 3, 1)[image, row[:, :, None], column[:, None]].permute(0, 3, 1, 2)


def _nearest(length: Tensor, new: int) -> Tensor:
    """(B, new): the pixel of a piece of this length (B,) that each new pixel is."""
    place = (torch.arange(new, device=length.device) * (length / new)[:, None]).long()
    return torch.minimum(place, length[:, None] - 1)
