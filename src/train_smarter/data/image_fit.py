"""Bring images of any proportions to one size. Imports no torch."""

from PIL import Image

from train_smarter.errors import UserError, did_you_mean

# What `fit` does, and its making.
RESIZES = {"stretch": "scaled", "crop": "scaled and cut", "pad": "scaled and padded"}


def fit(image: Image.Image, size: tuple[int, int], *, resize: str = "stretch") -> Image.Image:
    """The image scaled to `size`, width and height.

    Args:
        resize: "stretch" the whole image, whatever its proportions; "crop": scale until it covers `size`, and cut its
            middle out, as torchvision's `Resize` and `CenterCrop` do; "pad": scale until it fits, and put it into the
            middle of black.
    """
    scaled, (left, top) = place(image.size, size, resize=resize)
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    if scaled == size:
        return image
    if resize == "crop":
        return image.crop((left, top, left + size[0], top + size[1]))
    padded = Image.new(image.mode, size)
    padded.paste(image, (-left, -top))
    return padded


def place(old: tuple[int, int], new: tuple[int, int], *, resize: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """To which size an image is scaled, and where in it the new image begins, below 0 if it is padded.

    Width before height, left before top.
    """
    if resize == "stretch":
        return new, (0, 0)
    scales = [after / before for after, before in zip(new, old, strict=True)]
    axis = scales.index(max(scales) if resize == "crop" else min(scales))  # this side becomes that of `new`
    # Rounded down, as by torchvision.
    width, height = (max(1, int(new[axis] * before / old[axis])) for before in old)
    return (width, height), (round((width - new[0]) / 2), round((height - new[1]) / 2))


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
