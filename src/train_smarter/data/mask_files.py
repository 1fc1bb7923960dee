"""Images with masks in a parallel folder. Imports neither torch nor PIL."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from train_smarter.data.class_folders import MASK_WORDS, PLAIN_WORDS, SPLIT_WORDS, shorten, split_of
from train_smarter.data.image_files import list_folders, list_images
from train_smarter.errors import UserError, did_you_mean

# What the name of a mask has in addition to that of its image: 07_mask.png, 07-seg.png.
SUFFIX = re.compile(r"[-_. ]+(masks?|segmentations?|seg|gt|labels?|label_?ids|annotations?|ground_?truth|l)$", re.I)
Key = tuple[str | None, ...]  # of an image and its mask: the split, the folders in it, the name without a suffix


@dataclass(frozen=True)
class MaskPairs:
    """Images and their masks.

    splits: (image, mask) of each split; all of them are in "train" where there are no folders of splits.
    ignored: how many files are no images, by suffix.
    notes: what the log is to say.
    """

    splits: dict[str, list[tuple[Path, Path]]]
    ignored: dict[str, int]
    notes: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[tuple[Path, Path]]:
        return [pair for pairs in self.splits.values() for pair in pairs]


def find_pairs(folder: str | Path, masks: str | Path) -> MaskPairs:
    """Pair each image with the mask of the same name, whatever its suffix, in a parallel folder.

    Args:
        folder: of the images, with or without folders of splits.
        masks: of the masks: a path, a folder in `folder`, or in each of its splits. It may be `folder` itself, if the
            names of masks end with _mask, _seg, _gt or similar.

    Raises:
        UserError: a folder is missing, no image has a mask, or an image has two.
    """
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"data.dir={root} is not a folder: give the folder of the images")
    homes, ignored = _mask_folders(root, Path(masks)), Counter[str]()
    painted = [file for home in homes for file in list_images(home, ignored)]
    photos = _images(root, homes, ignored)
    if homes == [root]:
        painted = [file for file in painted if SUFFIX.search(file.stem)]
        photos = [file for file in photos if not SUFFIX.search(file.stem)]
    where = ", ".join(map(str, homes[:2]))
    if not photos or not painted:
        raise UserError(f"{root if not photos else where} holds no {'image' if not photos else 'mask'}")
    base = root if len(homes) > 1 else homes[0]
    return _pair(photos, painted, root=root, base=base, where=where, ignored=dict(ignored))


def _mask_folders(root: Path, masks: Path) -> list[Path]:
    path = masks.expanduser()
    for home in (path.resolve(), root / path):
        if home.is_dir():
            return [home.resolve()]
    inside = [child / path for child in list_folders(root) if split_of(child.name) and (child / path).is_dir()]
    if inside:
        return [home.resolve() for home in inside]
    beside = [folder.name for home in (root, root.parent) for folder in list_folders(home)]
    raise UserError(f"data.masks={masks} is not a folder, here or in {root}{did_you_mean(path.name, beside)}")


def _images(root: Path, homes: Sequence[Path], ignored: Counter[str]) -> list[Path]:
    apart = [home for home in homes if home != root]
    return [file for file in list_images(root, ignored) if not any(file.is_relative_to(home) for home in apart)]


# ---- by name


def _key(file: Path, base: Path) -> Key:
    """The split of a file, and its name within: folders named like a split, images or masks do not count."""
    folders = file.relative_to(base).parts[:-1]
    splits = [split for name in folders if (split := _split(name))]
    rest = [name for name in folders if not _split(name) and not _is_plain(name)]
    return (splits[0] if splits else None, *rest, file.stem)


def _split(folder: str) -> str | None:
    """The split that a folder's name means, of train_masks, too."""
    return split_of(folder) or split_of(SUFFIX.sub("", folder))


def _is_plain(folder: str) -> bool:
    word = folder.lower()
    return PLAIN_WORDS.fullmatch(word) is not None or MASK_WORDS.fullmatch(word) is not None


def _pair(
    photos: Sequence[Path], painted: Sequence[Path], *, root: Path, base: Path, where: str, ignored: dict[str, int]
) -> MaskPairs:
    keys = {file: _key(file, root) for file in photos}
    masks = _by_key(painted, base, set(keys.values()) | {(None, *key[1:]) for key in keys.values()})
    chosen = {file: masks.get(key) or masks.get((None, *key[1:])) for file, key in keys.items()}
    if not any(chosen.values()):
        raise UserError(
            f"no image of {root} has a mask in {where}: {photos[0].name} needs {photos[0].stem}.png there, which has "
            f"{shorten([file.name for file in painted[:3]])}"
        )
    if all(split is None for split, *_ in keys.values()):
        # The folder of the images is then the whole; its masks may be in folders of splits, which say nothing.
        splits = {"train": [(file, mask) for file, mask in chosen.items() if mask]}
    else:
        splits = {
            split: [(file, mask) for file, mask in chosen.items() if mask and keys[file][0] == split]
            for split in SPLIT_WORDS
        }
        splits = {split: pairs for split, pairs in splits.items() if pairs}
    if "train" not in splits:
        raise UserError(f"{root} has no image with a mask in a folder for training, only in {list(splits)}")
    return MaskPairs(splits, ignored, list(_notes(photos, painted, chosen, keys, where)))


def _by_key(painted: Iterable[Path], base: Path, wanted: set[Key]) -> dict[Key, Path]:
    """The masks by the keys of the images that they belong to.

    Raises:
        UserError: two belong to one image.
    """
    masks: dict[Key, Path] = {}
    for file in painted:
        key = _key(file, base)
        if key not in wanted:
            key = (*key[:-1], SUFFIX.sub("", str(key[-1])))
        if (other := masks.setdefault(key, file)) != file and key in wanted:
            raise UserError(f"two masks for one image, {other} and {file}: keep one of them")
    return masks


def _notes(
    photos: Sequence[Path],
    painted: Sequence[Path],
    chosen: dict[Path, Path | None],
    keys: dict[Path, Key],
    where: str,
) -> Iterator[str]:
    used = {mask for mask in chosen.values() if mask}
    splits = {key[0] for key in keys.values()}
    if bare := [str(file) for file, mask in chosen.items() if mask is None]:
        yield f"{len(bare)} of {len(photos)} images have no mask in {where} and are left out: {shorten(bare, count=3)}"
    if len(splits) > 1 and None in splits:
        outside = [str(file) for file, key in keys.items() if key[0] is None]
        yield f"{len(outside)} images are in no folder of a split and are left out: {shorten(outside, count=3)}"
    if unused := [str(file) for file in painted if file not in used]:
        yield f"{len(unused)} masks have no image: {shorten(unused, count=3)}"
