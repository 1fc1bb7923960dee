import gzip
import hashlib
from pathlib import Path

import pytest
import torch

from my_project.data import mnist
from my_project.data.mnist import MD5, MNIST, read_idx
from train_smarter import paths
from train_smarter.errors import UserError

COUNT = {"train": 100, "t10k": 20}  # of 60,000 and 10,000


def idx(*shape: int) -> bytes:
    """An idx file of this shape, its numbers counting up and turning over at 10."""
    header = bytes([0, 0, 8, len(shape)]) + b"".join(bytes([0, 0, 0, side]) for side in shape)
    return header + bytes(number % 10 for number in range(torch.Size(shape).numel()))


def files() -> dict[str, bytes]:
    """The four files by name, small."""
    shapes = {name: (COUNT[name.split("-")[0]], *((28, 28) if "images" in name else ())) for name in MD5}
    return {name: idx(*shape) for name, shape in shapes.items()}


def write_sample(folder: Path) -> list[str]:
    """Write the official layout at its official size, filled with noise, for the contract tests."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = torch.randint(0, 256, (100, 784), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        sizes = b"".join(side.to_bytes(4, "big") for side in (count, 28, 28))
        images = pixels.repeat(count // 100, 1).numpy().tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + sizes + images)
        labels = bytes(number % 10 for number in range(count))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + sizes[:4] + labels)
    return []


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "TRAIN", COUNT["train"])
    monkeypatch.setattr(mnist, "TEST", COUNT["t10k"])


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


def data(folder: Path, *urls: str) -> MNIST:
    return MNIST(dir=str(folder), urls=urls, num_classes=10, shape=[1, 28, 28])


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gz"])
def test_files_are_read_packed_or_not(tmp_path: Path, raw: Path, packed: bool) -> None:
    for name, content in files().items():
        (raw / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    digits = data(tmp_path)
    digits.download()  # finds them there
    digits.setup()
    # of 10 in each class of train, one is validation
    assert {name: len(examples) for name, examples in digits.examples.items()} == {"train": 90, "val": 10, "test": 20}
    assert digits.examples["test"].targets.tolist() == [*range(10)] * 2
    # the first image counts from 0: its second row starts with number 28
    assert digits.examples["test"].inputs[0, 0, :2, :3].tolist() == [[0, 1, 2], [8, 9, 0]]


def test_missing_files_are_downloaded_and_the_others_left(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    packed = {name: gzip.compress(content) for name, content in files().items()}
    for name, content in packed.items():
        (mirror / f"{name}.gz").write_bytes(content)
    monkeypatch.setattr(mnist, "MD5", {name: hashlib.md5(content).hexdigest() for name, content in packed.items()})
    there = raw / "t10k-labels-idx1-ubyte"
    there.write_bytes(files()[there.name])
    digits = data(tmp_path, (tmp_path / "nowhere").as_uri(), f"{mirror.as_uri()}/")
    digits.download()
    downloaded = {f"{name}.gz" for name in MD5 if name != there.name}
    assert {file.name for file in raw.iterdir() if file.suffix != ".lock"} == {*downloaded, there.name}
    assert len(digits.read().train) == COUNT["train"]


@pytest.mark.parametrize("mirror", ["https://example.org/mnist", "https://example.org/mnist/"])
def test_a_mirror_is_a_folder_with_or_without_a_slash(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(mnist, "fetch", lambda urls, *_, **__: asked.extend(urls))
    data(tmp_path, mirror).download()
    assert asked == [f"https://example.org/mnist/{name}.gz" for name in MD5]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it does not begin like 2 x 3 numbers of one byte"),
        (b"<html>", "it does not begin like 2 x 3 numbers of one byte"),
        (idx(3, 2), "it does not begin like 2 x 3 numbers of one byte"),
        (idx(2, 3)[:-1], "5 numbers instead of 6"),
        (idx(2, 3) + b"x", "7 numbers instead of 6"),
    ],
    ids=["empty", "a web page", "other shape", "too short", "too long"],
)
def test_a_broken_file_is_named_with_the_way_out(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "images"
    file.write_bytes(content)
    with pytest.raises(UserError) as broken:
        read_idx(file, (2, 3))
    assert str(broken.value) == f"{file} is not the official file ({why}): delete it and start again to download it"


@pytest.mark.parametrize("content", [gzip.compress(idx(2, 3))[:-9], b"<html>"], ids=["cut", "a web page"])
def test_a_broken_packed_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"images\.gz is not the official file"):
        read_idx(tmp_path / "images", (2, 3))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images\.gz is not the official file .*No such file"):
        read_idx(tmp_path / "images", (2, 3))


@pytest.mark.slow
def test_the_real_set_has_its_official_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # whole files
    folder = paths.ROOT / "data"
    if not (folder / "MNIST" / "raw").is_dir():
        pytest.skip("MNIST is not in the data folder")
    digits = data(folder)
    digits.setup()
    assert len(digits.examples["train"]) + len(digits.examples["val"]) == 60_000
    assert digits.examples["test"].targets[:5].tolist() == [7, 2, 1, 0, 4]  # as every tutorial shows them
    assert digits.examples["test"].targets.bincount()[:3].tolist() == [980, 1135, 1032]
