"""Where a user's images are, as typed, and what they are labelled by."""

from dataclasses import dataclass

from train_smarter.data.class_folders import class_names, list_folder
from train_smarter.data.image_listing import ImageListing
from train_smarter.errors import UserError


@dataclass(frozen=True)
class ImageSource:
    """Images with a class by their folder, or with a mask.

    dir: folder of the images.
    masks: folder of their masks.
    classes: that are used, in this order; None: all.
    """

    dir: str | None = None
    masks: str | None = None
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.dir is None:
            raise UserError("data.dir has no value yet: type data.dir=<folder of images>")

    def names(self) -> list[str]:
        """The classes."""
        if self.masks is None:
            return class_names(str(self.dir), self.classes)
        return list(self.classes or self.mask_classes().names)

    def list(self) -> ImageListing:
        """The images of each split, with what belongs to each."""
        if self.masks is None:
            return list_folder(str(self.dir), self.classes)
        return self.list_masks()
