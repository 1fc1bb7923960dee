"""Images in a folder for each class, with or without folders of splits. Imports neither torch nor PIL.

A config counts its classes by `class_names`, so that reads no more than the names of folders.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from train_smarter.data.image_files import SUFFIXES, has_images, list_folders, list_images
from train_smarter.data.image_listing import FileExamples, ImageListing
from train_smarter.errors import UserError, did_you_mean

SPLIT_WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validate", "validation", "dev"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout"),
}
SPLIT_TITLES = {"train": "training", "val": "validation", "test": "test"}
# What a folder of a split, or one around it, is also called: train_set, "Test images", seg_train.
PLAIN_WORDS = re.compile(r"(data|image|img|picture|pic|photo)?(set)?s?|folder|split|seg|unknown|unlabell?ed")
MASK_WORDS = re.compile(r"masks?|labels?|annotations?|ground_?truths?|gts?|segmentations?")
SEARCHED = 20  # folders that are searched for splits inside of them; more of them are classes
SHOWN = 5  # names in a message


@dataclass
class Layout:
    """Where the images of each class are.

    folders: of each split, of each class; {"train": {"cat": ..., "dog": ...}}.
    notes: what the log is to say.
    """

    root: Path
    folders: dict[str, dict[str, Path]]
    notes: list[str] = field(default_factory=list)


def class_names(folder: str | Path, classes: Sequence[str] | None = None) -> list[str]:
    """The classes: the names of the folders, sorted; or those of `classes`, in their order.

    Raises:
        UserError: there is no such folder, or it has fewer than two classes, or it may mean two things.
    """
    return list(find_layout(folder, classes).folders["train"])


def list_folder(folder: str | Path, classes: Sequence[str] | None = None) -> ImageListing:
    """All images of a folder per class, in an order that depends on their names alone.

    Raises:
        UserError: see `class_names`; or a class has no image in train, or val or test have a class that train lacks.
    """
    layout, ignored = find_layout(folder, classes), Counter[str]()
    names = list(layout.folders["train"])
    splits = {split: _list_examples(folders, names, ignored) for split, folders in layout.folders.items()}
    if not any(splits.values()):
        raise UserError(f"{layout.root} holds no image ({' '.join(SUFFIXES)}) in the folders of its classes")
    present = set(splits["train"].targets)
    if empty := [name for label, name in enumerate(names) if label not in present]:
        home = next(iter(layout.folders["train"].values())).parent
        rest = [name for name in names if name not in empty]
        raise UserError(f"{home}: no image in {empty}; fill or remove what is no class, or type {_choose(rest)}")
    homes = {folder.parent for folders in layout.folders.values() for folder in folders.values()}
    loose = [f"images in {home} next to the folders of classes are not used" for home in homes if has_images(home)]
    return ImageListing(names, splits, dict(ignored), [*layout.notes, *sorted(loose)])


def _list_examples(folders: dict[str, Path], names: Sequence[str], ignored: Counter[str]) -> FileExamples:
    label = {name: number for number, name in enumerate(names)}
    pairs = [(file, label[name]) for name, folder in folders.items() for file in sorted(list_images(folder, ignored))]
    return FileExamples([file for file, _ in pairs], [label for _, label in pairs])


# ---- folders of splits and of classes


def find_layout(folder: str | Path, classes: Sequence[str] | None = None) -> Layout:
    """The folders of each class, in any of these: `<class>/`, `<split>/<class>/`, `<class>/<split>/`.

    One folder around them is looked into.

    Args:
        classes: those that are used, in this order; None: all, sorted.
    """
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"data.dir={root} is not a folder: give one that has a folder of images for each class")
    home = _skip_outer_folders(root)
    children = {child.name: child for child in _without_circles(home)}
    layout = (
        _chosen_classes(home, children, classes)
        or _split_layout(home, children)
        or _inner_layout(home, children)
        or Layout(home, {"train": children})
    )
    if home != root and len(layout.folders["train"]) > 1:
        layout.notes.insert(0, f"the classes are in {home}")
    return _checked(layout, root, classes)


def split_of(name: str) -> str | None:
    """The split that a folder's name means: "train" for Train, training_set, train2017; None: another word."""
    words = {_singular(word) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", unicodedata.normalize("NFC", name))}
    words = {word for word in words if not PLAIN_WORDS.fullmatch(word)}
    if re.search(r"[^\x00-\x7f]", name) or len(words) != 1:
        return None
    return next((split for split, known in SPLIT_WORDS.items() if words <= set(known)), None)


def _singular(word: str) -> str:
    """A word in lower case, without the "set" of trainset."""
    return re.sub(r"(?<=.)sets?$", "", word.lower())


def _skip_outer_folders(root: Path) -> Path:
    """The folder inside of folders that hold nothing but one folder each, as archives make them."""
    home = root
    while len(inner := list_folders(home)) == 1 and not has_images(home) and not split_of(inner[0].name):
        home = inner[0]
    return home if len(list_folders(home)) > 1 or any(split_of(child.name) for child in list_folders(home)) else root


def _without_circles(home: Path) -> list[Path]:
    """The folders in a folder but links to itself or to one around it."""
    around = {home.resolve(), *home.resolve().parents}
    return [child for child in list_folders(home) if not child.is_symlink() or child.resolve() not in around]


def _chosen_classes(home: Path, children: dict[str, Path], classes: Sequence[str] | None) -> Layout | None:
    """The folders that `data.classes` names, if they are all here: then none of them is a split."""
    if not classes or not set(classes) <= set(children):
        return None
    return Layout(home, {"train": children})


def _split_layout(home: Path, children: dict[str, Path]) -> Layout | None:
    """`<split>/<class>/`; None where no folder is named like a split, or only a class is."""
    named: dict[str, list[Path]] = {}
    for name, child in children.items():
        if split := split_of(name):
            named.setdefault(split, []).append(child)
    if not named:
        return None
    inside = {split: {each: _classes_in(each, split) for each in folders} for split, folders in named.items()}
    full = {split: [each for each, classes in found.items() if classes] for split, found in inside.items()}
    rest = [child for child in children.values() if split_of(child.name) is None]
    if not full.get("train"):
        return _without_train(home, named, full, rest)
    for split, folders in full.items():
        if len(folders) > 1:
            raise UserError(
                f"{home} has several {SPLIT_TITLES[split]} folders, {[each.name for each in folders]}: keep one of them"
            )
    layout = Layout(home, {split: inside[split][folders[0]] for split, folders in full.items() if folders})
    layout.notes += [_flat_note(each) for split, found in inside.items() for each in found if _is_flat(each, found)]
    if rest:
        layout.notes.append(f"{_quoted(rest)} next to the folders of splits in {home} are not used")
    layout.folders = {split: layout.folders[split] for split in SPLIT_WORDS if split in layout.folders}
    return layout


def _is_flat(folder: Path, found: dict[Path, dict[str, Path]]) -> bool:
    return not found[folder] and next(list_images(folder, Counter()), None) is not None


def _flat_note(folder: Path) -> str:
    return (
        f"the images of {folder} have no class and are not used: for predictions of them, type "
        f"predict run=last input={folder}"
    )


def _without_train(
    home: Path, named: dict[str, list[Path]], full: dict[str, list[Path]], rest: Sequence[Path]
) -> Layout | None:
    """Folders named like splits, of which none for training has classes."""
    classes = [child.name for child in rest]
    names = [each.name for folders in named.values() for each in folders]
    if "train" in named and len(named) == 1 and rest and len(names) == 1:
        return None  # a class of trains
    if "train" in named:
        train = named["train"][0]
        raise UserError(
            f"{train} holds no folder for each class: make one for each, {train.name}/<class>/; or give a table of "
            "files and labels, data.file=..."
        )
    inner = {split: _classes_in(folders[0], split) for split, folders in full.items() if folders}
    if inner and len(classes) > 1 and all(set(found) <= set(classes) for found in inner.values()):
        layout = Layout(home, {"train": {child.name: child for child in rest}, **inner})
        layout.notes.append(f"train is {_quoted(rest)} in {home}, next to {', '.join(names)}")
        return layout
    if len(classes) > 1:
        raise UserError(
            f"{home} has {names}, named like a split, next to {shorten(classes)}: to leave it out, type "
            f"{_choose(classes)}; to make it a class, {_choose(sorted([*classes, *names]))}"
        )
    raise UserError(f"{home} has {names} and no folder for training: call the one to train on {home / 'train'}")


def _classes_in(folder: Path, split: str) -> dict[str, Path]:
    """The folders of classes in a split's folder; a further folder of the split's name around them is skipped."""
    inner = _without_circles(folder)
    while len(inner) == 1 and (PLAIN_WORDS.fullmatch(inner[0].name.lower()) or split_of(inner[0].name) == split):
        inner = _without_circles(inner[0])
    return {child.name: child for child in inner}


def _inner_layout(home: Path, children: dict[str, Path]) -> Layout | None:
    """`<class>/<split>/`, or `<folder>/<split>/<class>/` with other folders next to it."""
    searched = {name: _splits_in(child) for name, child in list(children.items())[:SEARCHED]}
    if not any(map(_has_train, searched.values())):
        return None
    inside = {name: splits for name, child in children.items() if (splits := _splits_in(child)) and "train" in splits}
    whole = [name for name, splits in inside.items() if _classes_in(splits["train"], "train")]
    if len(whole) > 1:
        raise UserError(
            f"{home} holds several data sets, {shorten(whole)}: give one of them, data.dir={home / whole[0]}"
        )
    if whole:
        layout = _split_layout(children[whole[0]], {child.name: child for child in list_folders(children[whole[0]])})
        if layout:
            layout.notes.insert(0, f"the classes are in {children[whole[0]]}")
        return layout
    if without := [name for name in children if name not in inside]:
        raise UserError(f"{home}: {shorten(list(inside))} have folders of splits, but {shorten(without)} no train")
    folders = {
        split: {name: inside[name][split] for name in children if split in inside[name]} for split in SPLIT_WORDS
    }
    return Layout(home, {split: found for split, found in folders.items() if found})


def _has_train(splits: dict[str, Path]) -> bool:
    return "train" in splits and (len(splits) > 1 or len(_classes_in(splits["train"], "train")) > 1)


def _splits_in(folder: Path) -> dict[str, Path]:
    return {split: child for child in list_folders(folder) if (split := split_of(child.name))}


# ---- the classes


def _checked(layout: Layout, root: Path, classes: Sequence[str] | None) -> Layout:
    """The layout with the chosen classes in their order."""
    train = layout.folders["train"]
    if odd := [name for name in train if not name.isprintable()]:
        raise UserError(
            f"the name of a class is no printable UTF-8 text, rename the folder {odd[0]!a} in {layout.root}"
        )
    if classes:
        if unknown := [name for name in classes if name not in train]:
            raise UserError(
                f"data.classes: {layout.root} has no {unknown[0]!r}; it has {shorten(list(train))}"
                f"{did_you_mean(unknown[0], list(train))}"
            )
        if left_out := [name for name in train if name not in classes]:
            layout.notes.append(f"classes that data.classes leaves out: {shorten(left_out)}")
        layout.folders = {
            split: {name: folders[name] for name in classes if name in folders}
            for split, folders in layout.folders.items()
        }
    elif len(train) < 2:
        raise UserError(f"data.dir={root} needs a folder of images for each of at least two classes, not {list(train)}")
    else:
        _reject_masks(layout)
        _reject_equal_names(layout)
    for folders in layout.folders.values():
        if unknown := [name for name in folders if name not in layout.folders["train"]]:
            raise UserError(_unknown_class(folders, unknown, list(train)))
    return layout


def _unknown_class(folders: dict[str, Path], unknown: Sequence[str], known: Sequence[str]) -> str:
    home = folders[unknown[0]].parent
    same = next((name for name in known if _key(name) == _key(unknown[0])), None)
    hint = f"; is {unknown[0]!r} {same!r}? Rename it" if same else did_you_mean(unknown[0], known)
    return f"{home} has classes that train lacks: {list(unknown)}; train has {shorten(known)}{hint}"


def _reject_masks(layout: Layout) -> None:
    """Raise where the folders are of images and of masks: those are no two classes."""
    train = layout.folders["train"]
    masks = [name for name in train if MASK_WORDS.fullmatch(name.lower())]
    images = [name for name in train if PLAIN_WORDS.fullmatch(name.lower())]
    if masks and images and len(train) == len(masks) + len(images) and has_images(train[masks[0]]):
        flat = train[images[0]].parent == layout.root
        photos, painted = (train[images[0]], train[masks[0]]) if flat else (layout.root, masks[0])
        raise UserError(
            f"{layout.root} holds images and masks, no classes: type data.dir={photos} data.masks={painted} "
            "task=segmentation"
        )


def _reject_equal_names(layout: Layout) -> None:
    by_key: dict[str, list[str]] = {}
    for name in layout.folders["train"]:
        by_key.setdefault(_key(name), []).append(name)
    for names in by_key.values():
        if len(names) > 1:
            raise UserError(
                f"{layout.root} has the classes {names}, which differ in case or spaces alone: put their images into "
                f"one folder; or, if they are two classes, type data.classes=[...] with all of them"
            )


def _key(name: str) -> str:
    """What two spellings of one class have in common."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


def _choose(names: Sequence[str]) -> str:
    return f"'data.classes=[{','.join(names)}]'" if len(names) <= SHOWN else "'data.classes=[...]' with the classes"


def shorten(names: Sequence[str], *, count: int = SHOWN) -> str:
    """Names in a message: all of a few, else the first ones and how many follow."""
    return f"{list(names[:count])}{f' and {len(names) - count} more' if len(names) > count else ''}"


def _quoted(folders: Sequence[Path]) -> str:
    return shorten([folder.name for folder in folders])
