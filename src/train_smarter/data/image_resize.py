"""How an image file of other proportions gets the size of the examples. Imports no torch: a config counts masks."""

from PIL import Image

from train_smarter.errors import UserError, did_you_mean

# What `fit` does, and its making.
RESIZES = {"stretch": "scaled", "crop": "scaled and cut", "pad": "scaled and padded"}


def fit(
    image: Image.Image,
    size: tuple[int, int],
    *,
    resize: str = "stretch",
    resample: Image.Resampling = Image.Resampling.BILINEAR,
    fill: int = 0,
) -> Image.Image:
    """The image scaled to `size`.

    Args:
        size: width and height.
        resize: "stretch" the whole image, whatever its proportions; "crop": scale until it covers `size`, and cut its
            middle out, as torchvision's `Resize` and `CenterCrop` do; "pad": scale until it fits, and put it into the
            middle of `fill`.
        resample: how pixels are made.
    """
    if resize == "stretch" or image.size == size:
        return image.resize(size, resample)
    scales = [new / old for new, old in zip(size, image.size, strict=True)]
    axis = scales.index(max(scales) if resize == "crop" else min(scales))  # this side becomes that of `size`
    # Rounded down, as by torchvision.
    scaled = [max(1, int(size[axis] * old / image.size[axis])) for old in image.size]
    left, top = (round((old - new) / 2) for old, new in zip(scaled, size, strict=True))
    image = image.resize((scaled[0], scaled[1]), resample)
    if resize == "crop":
        return image.crop((left, top, left + size[0], top + size[1]))
    padded = Image.new(image.mode, size, fill)
    padded.paste(image, (-left, -top))
    return padded


def check_resize(resize: str) -> str:
    """`resize`, if `fit` knows it.

    Raises:
        UserError: it does not.
    """
    if resize not in RESIZES:
        raise UserError(
            f"data.resize={resize}: give stretch (the whole image, whatever its proportions), crop (the middle of the "
            f"scaled image) or pad (the whole scaled image, on black){did_you_mean(str(resize), list(RESIZES))}"
        )
    return resize
