import hashlib
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from my_project.data import cifar10
from my_project.data.cifar10 import CIFAR10, NAMES
from train_smarter import paths
from train_smarter.errors import UserError

FILES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
PER_FILE = 20  # of 10,000: two of each class
Bytes = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "PER_FILE", PER_FILE)


def content(number: int) -> tuple[Bytes, Bytes]:
    """Pixels (20, 3072) and labels (20,) of the file of this number."""
    pixels = np.random.default_rng(number).integers(0, 256, (PER_FILE, 3072), dtype=np.uint8)
    return pixels, np.arange(PER_FILE, dtype=np.uint8) % 10


def write_binary(folder: Path) -> Path:
    folder.mkdir()
    for number, name in enumerate(FILES):
        pixels, labels = content(number)
        (folder / f"{name}.bin").write_bytes(np.hstack([labels[:, None], pixels]).tobytes())
    return folder


def python_2_pickle(pixels: Bytes, labels: Bytes) -> bytes:
    """As the official files: protocol 2 of Python 2, where bytes and text are one (opcodes U and T)."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    rows, columns = pixels.shape
    shape = b"M" + rows.to_bytes(2, "little") + b"M" + columns.to_bytes(2, "little") + b"\x86"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R(K\x03" + text("|") + b"NNNJ" + b"\xff" * 4
    raw = b"T" + pixels.size.to_bytes(4, "little") + pixels.tobytes()
    array: bytes = empty + b"(K\x01" + shape + dtype + b"J" + b"\xff" * 4 + b"K\x00tb\x89" + raw + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text("labels") + numbers + text("data") + array + b"u."


def write_python(folder: Path) -> Path:
    folder.mkdir()
    for number, name in enumerate(FILES):
        (folder / name).write_bytes(python_2_pickle(*content(number)))
    return folder


def write_sample(folder: Path) -> list[str]:
    """Write the official layout at its official size, filled with noise, for the contract tests."""
    (folder / "cifar-10-batches-bin").mkdir()
    rows = np.tile(np.random.default_rng(0).integers(0, 256, (100, 3073), dtype=np.uint8), (100, 1))
    rows[:, 0] = np.arange(len(rows)) % 10
    for name in FILES:
        rows.tofile(folder / "cifar-10-batches-bin" / f"{name}.bin")
    return []


def data(folder: Path, *, urls: list[str] | None = None, md5: str = "") -> CIFAR10:
    return CIFAR10(dir=str(folder), urls=urls or [], md5=md5, num_classes=10, shape=[3, 32, 32])


@pytest.mark.parametrize(
    ("write", "name"),
    [(write_binary, "cifar-10-batches-bin"), (write_python, "cifar-10-batches-py")],
    ids=["bin", "py"],
)
def test_either_layout_gives_the_same_images_and_labels(
    tmp_path: Path, write: Callable[[Path], Path], name: str
) -> None:
    write(tmp_path / name)
    cifar = data(tmp_path)
    cifar.download()  # finds it there
    source = cifar.read()
    assert source.test is not None
    for examples, numbers in ((source.train, range(5)), (source.test, [5])):
        pixels = np.concatenate([content(number)[0] for number in numbers]).reshape(-1, 3, 32, 32)
        assert examples.inputs.equal(torch.from_numpy(pixels))
        assert examples.targets.tolist() == [*range(10)] * 2 * len(numbers)
    assert source.names == NAMES


def test_the_official_test_files_stay_whole_and_a_tenth_of_train_is_validation(tmp_path: Path) -> None:
    write_binary(tmp_path / "cifar-10-batches-bin")
    cifar = data(tmp_path)
    cifar.setup()
    # 5 files of 20 make 100: of 10 in each class, one is validation
    assert {split: len(examples) for split, examples in cifar.examples.items()} == {"train": 90, "val": 10, "test": 20}


def test_without_files_the_archive_is_downloaded_and_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "elsewhere.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(write_binary(tmp_path / "made"), "cifar-10-batches-bin")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    cifar = data(tmp_path / "new", urls=[archive.as_uri()], md5=md5)
    cifar.download()
    assert len(cifar.read().train) == 100


def test_a_file_of_the_wrong_size_is_named_with_the_way_out(tmp_path: Path) -> None:
    file = write_binary(tmp_path / "cifar-10-batches-bin") / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError) as broken:
        data(tmp_path).read()
    # 20 * 3,073 = 61,460
    assert str(broken.value) == (
        f"{file} is not the official file (61,459 bytes instead of 61,460): "
        f"delete {file.parent} and start again to download it"
    )


def test_a_label_that_is_no_class_is_refused(tmp_path: Path) -> None:
    file = write_binary(tmp_path / "cifar-10-batches-bin") / "test_batch.bin"
    file.write_bytes(b"\x0a" + file.read_bytes()[1:])
    with pytest.raises(UserError, match=r"test_batch\.bin .*the labels are not 20 numbers from 0 to 9"):
        data(tmp_path).read()


@pytest.mark.parametrize("name", ["cifar-10-batches-bin", "cifar-10-batches-py"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"data_batch_1(\.bin)? is not the official file .*No such file"):
        data(tmp_path).read()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("made by a pickle",)


def test_a_pickle_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_python(tmp_path / "cifar-10-batches-py") / "data_batch_1"
    file.write_bytes(pickle.dumps({"data": Evil(), "labels": []}))
    with pytest.raises(UserError, match=r"posix\.mkdir|nt\.mkdir"):
        data(tmp_path).read()
    assert not Path("made by a pickle").exists()


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (b"", "EOFError"),
        (pickle.dumps([1, 2]), "TypeError"),
        (pickle.dumps({"data": content(0)[0]}), "KeyError"),
        (pickle.dumps({"data": content(0)[0][:5], "labels": [1] * 5}), r"uint8 numbers of shape \(5, 3072\)"),
        (pickle.dumps({"data": content(0)[0].astype(float), "labels": [1] * 20}), r"float64 numbers of shape"),
        (pickle.dumps({"data": content(0)[0], "labels": [11] * 20}), "the labels are not 20 numbers from 0 to 9"),
    ],
    ids=["empty", "no dictionary", "no labels", "too few", "no bytes", "no classes"],
)
def test_a_pickle_of_anything_else_is_named(tmp_path: Path, written: bytes, why: str) -> None:
    file = write_python(tmp_path / "cifar-10-batches-py") / "data_batch_1"
    file.write_bytes(written)
    with pytest.raises(UserError, match=rf"data_batch_1 is not the official file \(.*{why}"):
        data(tmp_path).read()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_written_by_python_3_is_read_too(tmp_path: Path, protocol: int) -> None:
    folder = write_python(tmp_path / "cifar-10-batches-py")
    pixels, labels = content(0)
    (folder / FILES[0]).write_bytes(pickle.dumps({"data": pixels, "labels": labels.tolist()}, protocol))
    assert data(tmp_path).read().train.inputs[:20].equal(torch.from_numpy(pixels).view(-1, 3, 32, 32))


@pytest.mark.slow
def test_the_real_set_has_its_official_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # whole files
    folder = paths.ROOT / "data"
    if not list(folder.glob("cifar-10-batches-*")):
        pytest.skip("CIFAR-10 is not in the data folder")
    cifar = data(folder)
    cifar.setup()
    assert {split: len(examples) for split, examples in cifar.examples.items()} == {
        "train": 45_000,
        "val": 5_000,
        "test": 10_000,
    }
    assert cifar.examples["test"].targets.bincount().tolist() == [1000] * 10
    assert cifar.examples["val"].targets.bincount().tolist() == [500] * 10
