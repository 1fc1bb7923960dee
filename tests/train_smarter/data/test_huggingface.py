"""What `datasets` loads becomes texts, images or a table, with the targets that the task needs."""

import csv
import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from train_smarter.config.build import build_data
from train_smarter.config.facts import fill_facts
from train_smarter.data.file_rows import FileRows
from train_smarter.data.huggingface import HuggingFaceImages, HuggingFaceTable, HuggingFaceTexts, Source
from train_smarter.data.row_file import DiskRows
from train_smarter.data.rows import MemoryRows
from train_smarter.data.storage import CACHES
from train_smarter.errors import UserError

datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.filterwarnings("ignore")  # of datasets' own

Served = tuple[str, list[str]]  # a server's address, and the paths that it was asked for
ROWS = [(f"film {i}", "good" if i % 2 else "bad", i / 2, i % 3, f"{i:03d}") for i in range(30)]


@pytest.fixture(autouse=True)
def _cache_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "elsewhere")


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    with (file := tmp_path / "reviews.csv").open("w", newline="") as opened:
        csv.writer(opened).writerows([("text", "label", "stars", "kind", "code"), *ROWS])
    return file


def write_json(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def config(tmp_path: Path, task: str = "classification", **data: Any) -> DictConfig:
    """The groups that count of a composed config, before the data were read."""
    conf = {"_target_": "train_smarter.data.huggingface.HuggingFace", "dir": str(tmp_path / "data"), "size": 4}
    conf |= {"shape": [3, 4, 4], "mean": 0.5, "std": 0.5, "mask_fill": 0, "augment": {}, "standardize": True}
    conf |= {"resize": "stretch", "cache": None}
    conf |= {"vocab_size": 50, "max_length": 5, "truncation_side": "left", "input": None, "target": None}
    conf |= {"num_classes": None, "num_targets": None, "download": True, "path": "csv", **data}
    return OmegaConf.create({"data": conf, "task": {"_target_": f"train_smarter.task.{task}.{task.title()}"}})


def read(tmp_path: Path, task: str = "classification", **data: Any) -> Any:
    cfg = config(tmp_path, task, **data)
    assert fill_facts(cfg)
    made = build_data(cfg)
    made.setup()
    return made


# ---- which data they are


def test_a_column_of_texts_is_a_data_set_of_texts(reviews: Path, tmp_path: Path) -> None:
    data = read(tmp_path, data_files=str(reviews), input="text", target="label")
    assert isinstance(data, HuggingFaceTexts)
    assert (data.names, data.num_classes) == (["bad", "good"], 2)
    sizes = {split: len(examples) for split, examples in data.examples.items()}
    assert sizes == {"train": 22, "val": 2, "test": 6}  # 30 * 0.2 = 6; a tenth of the other 24
    train = data.examples["train"]
    for tokens, label in zip(train.inputs, train.targets, strict=True):
        number = int(data.decode(tokens).split()[1]) if "UNK" not in data.decode(tokens) else None
        assert number is None or number % 2 == int(label)


def test_columns_of_texts_are_joined(tmp_path: Path) -> None:
    rows = [{"title": "A", "body": f"text {i}", "label": i % 2} for i in range(20)]
    file = write_json(tmp_path / "a.jsonl", rows)
    source = read(tmp_path, path="json", data_files=str(file), input=["title", "body"]).read()
    assert source.train.inputs[:2] == ["A\ntext 0", "A\ntext 1"]


def test_an_input_of_texts_is_a_file_with_their_columns_or_a_text_a_line(tmp_path: Path) -> None:
    rows = [{"title": "A", "body": f"text {i}", "label": i % 2} for i in range(20)]
    file = write_json(tmp_path / "a.jsonl", rows)
    data = read(tmp_path, path="json", data_files=str(file), input=["title", "body"])
    new = tmp_path / "new.csv"
    new.write_text('id,body,title\n7,"long, and\ntwo lines",B\n', encoding="utf8")
    assert [data.load_input(source).content for source in data.iter_inputs(str(new))] == ["B\nlong, and\ntwo lines"]
    assert [data.load_input(source).content for source in data.iter_inputs("a film")] == ["a film"]
    new.write_text("body\nx\n", encoding="utf8")
    with pytest.raises(UserError, match="has no column title, but body"):
        data.iter_inputs(str(new))


def test_columns_of_numbers_are_a_table(reviews: Path, tmp_path: Path) -> None:
    data = read(tmp_path, "regression", data_files=str(reviews), input=["kind", "code"], target="stars")
    assert isinstance(data, HuggingFaceTable)
    assert (data.shape, list(data.columns), data.num_targets, data.names) == ((2,), ["kind", "code"], 1, ["stars"])
    source = data.read()
    assert source.train.inputs.tolist() == [[i % 3, i] for i in range(30)]
    assert source.train.targets.equal(torch.arange(30.0)[:, None] / 2)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split, count in (("train", 6), ("test", 2)):
        for name, color in (("cat", (250, 0, 0)), ("dog", (0, 0, 250))):
            (folder := tmp_path / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8 + i, 6), color).save(folder / f"{i}.png")
    return tmp_path / "photos"


def test_a_folder_of_images_has_its_classes_and_its_splits(photos: Path, tmp_path: Path) -> None:
    data = read(tmp_path, path="imagefolder", data_dir=str(photos))
    assert isinstance(data, HuggingFaceImages)
    assert data.names == ["cat", "dog"]
    test = data.examples["test"]
    assert test.inputs.shape == (4, 3, 4, 4)
    assert test.inputs.read().is_contiguous(memory_format=torch.channels_last)
    assert test.inputs.read()[:, :, 0, 0].tolist() == [[250, 0, 0], [250, 0, 0], [0, 0, 250], [0, 0, 250]]
    assert test.targets.tolist() == [0, 0, 1, 1]


def test_images_are_fitted_as_typed(photos: Path, tmp_path: Path) -> None:
    data = read(tmp_path, path="imagefolder", data_dir=str(photos), resize="pad")
    last = data.examples["train"].inputs.read()[-1]  # wider than high: rows of black above and below
    assert last[:, 0].eq(0).all()
    assert last[:, 2].eq(torch.tensor([0, 0, 250])[:, None]).all()


def test_images_may_be_grey(photos: Path, tmp_path: Path) -> None:
    data = read(tmp_path, path="imagefolder", data_dir=str(photos), shape=[1, 4, 4])
    assert data.examples["test"].inputs.shape == (4, 1, 4, 4)


def test_images_in_memory_on_the_disk_and_decoded_for_each_batch_are_the_same(photos: Path, tmp_path: Path) -> None:
    data = {cache: read(tmp_path, path="imagefolder", data_dir=str(photos), cache=cache) for cache in CACHES}
    assert [type(data[cache].examples["train"].inputs) for cache in CACHES] == [MemoryRows, DiskRows, FileRows]
    memory, *others = (list(data[cache].train_dataloader()) for cache in CACHES)
    for batches in others:
        for (images, labels), (same, equal) in zip(memory, batches, strict=True):
            assert images.equal(same)
            assert labels.equal(equal)


def test_the_cache_file_of_images_is_made_once_for_each_state_of_the_data(photos: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"path": "imagefolder", "data_dir": str(photos), "cache": "disk"}
    for _ in range(2):
        read(tmp_path, **settings)
        made = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "data" / "cache").glob("*.rows")}
        assert len(made) == 2  # train and test
    read(tmp_path, **settings)
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "data" / "cache").glob("*.rows")} == made
    Image.new("RGB", (8, 6), (0, 250, 0)).save(photos / "test" / "cat" / "0.png")
    os.utime(photos / "test" / "cat" / "0.png", ns=(1, 5))
    changed = read(tmp_path, **settings).examples["test"].inputs.read()
    assert changed[0, :, 0, 0].tolist() == [0, 250, 0]


def test_without_downloads_no_cache_file_of_images_is_made(photos: Path, tmp_path: Path) -> None:
    cfg = config(tmp_path, path="imagefolder", data_dir=str(photos), cache="disk")
    fill_facts(cfg)
    cfg.data.download = False
    data = build_data(cfg)
    data.setup()
    assert isinstance(data.examples["train"].inputs, MemoryRows)
    assert not (tmp_path / "data" / "cache").exists()


def test_images_of_a_parquet_file_are_read_from_their_bytes(photos: Path, tmp_path: Path) -> None:
    whole = Source("imagefolder", str(tmp_path / "data"), data_dir=str(photos)).load()["train"]
    whole.map(lambda row: row).to_parquet(tmp_path / "photos.parquet")
    source = read(tmp_path, path="parquet", data_files=str(tmp_path / "photos.parquet"), val_fraction=0.3).read()
    assert source.names == ["cat", "dog"]
    assert source.train.inputs.read()[0, :, 0, 0].tolist() == [250, 0, 0]


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_a_broken_image_is_named_and_left_out(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, cache: str
) -> None:
    (photos / "train" / "dog" / "3.png").write_bytes(b"no image")
    data = read(tmp_path, path="imagefolder", data_dir=str(photos), cache=cache)
    assert "imagefolder train row 000000010 is broken and left out: not an image" in caplog.text
    assert [len(data.examples[split]) for split in ("train", "val", "test")] == [9, 2, 4]
    images, labels = data.examples["train"].read(torch.arange(9))
    assert (images[:, 2, 0, 0] == 250).equal(labels == 1)


# ---- targets


def targets(tmp_path: Path, values: list[Any], task: str = "classification", **data: Any) -> Any:
    file = write_json(tmp_path / "t.jsonl", [{"text": f"t {i}", "y": value} for i, value in enumerate(values)])
    source = read(tmp_path, task, path="json", data_files=str(file), target="y", **data).read()
    return source.names, source.train.targets.tolist()


def test_whole_numbers_are_classes_in_their_order_or_numbers_as_the_task_needs(tmp_path: Path) -> None:
    values = [10, 2, 10, 7] * 10
    assert targets(tmp_path, values) == (["2", "7", "10"], [2, 0, 2, 1] * 10)
    assert targets(tmp_path, values, "regression") == (["y"], [[10.0], [2.0], [10.0], [7.0]] * 10)


def test_flags_are_two_classes(tmp_path: Path) -> None:
    assert targets(tmp_path, [True, False] * 10) == (["false", "true"], [1, 0] * 10)


def test_lists_are_labels_or_several_numbers(tmp_path: Path) -> None:
    names, labels = targets(tmp_path, [["b"], [], ["a", "b"], ["b"]] * 5, "multilabel")
    assert (names, labels[:3]) == (["a", "b"], [[0, 1], [0, 0], [1, 1]])
    names, numbers = targets(tmp_path, [[0.5, 2.0]] * 20, "regression")
    assert (names, numbers[0]) == ([], [0.5, 2.0])


def test_a_split_without_labels_is_left_out_and_cut_instead(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    for split, labels in (("train", [0, 1] * 10), ("test", [-1] * 4)):
        rows = {"text": [f"{split} {i}" for i in range(len(labels))], "label": labels}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{split}.parquet")
    files = {split: str(tmp_path / f"{split}.parquet") for split in ("train", "test")}
    data = read(tmp_path, path="parquet", data_files=files)
    assert data.names == ["no", "yes"]
    assert "test has no labels and is not used" in caplog.text
    assert all(data.decode(tokens).startswith("train") for tokens in data.examples["test"].inputs)


# ---- what is refused, and says what to type


def refusal(tmp_path: Path, task: str = "classification", **data: Any) -> str:
    with pytest.raises(UserError) as refused:
        read(tmp_path, task, **data)
    return str(refused.value)


@pytest.mark.parametrize(
    ("task", "data", "parts"),
    [
        ("classification", {"target": "stars"}, ["holds numbers", "type task=regression"]),
        ("regression", {"target": "label"}, ["holds classes", "type task=classification"]),
        ("classification", {"target": "lable"}, ["no such column", "did you mean 'label'?"]),
        ("classification", {"input": "txt"}, ["data.input=txt", "did you mean 'text'?"]),
        ("classification", {"input": None, "target": "kind"}, ["data.input has no value yet", "kind (int64)"]),
        ("classification", {"input": ["text", "kind"]}, ["not text (large_string), kind (int64)"]),
        ("classification", {"target": "code"}, ["30 different values in 30 rows", "task=regression"]),
        ("classification", {"path": "cvs", "download": False}, ["data.path=cvs: ", "did you mean 'csv'?"]),
        ("classification", {"data_files": "none.csv"}, ["data.path=csv: Unable to find", "none.csv"]),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_type(
    task: str, data: dict[str, Any], parts: list[str], reviews: Path, tmp_path: Path
) -> None:
    told = refusal(tmp_path, task, **{"data_files": str(reviews), "input": "text", "target": "label", **data})
    assert len(told.splitlines()) == 1
    for part in parts:
        assert part in told


def test_a_missing_class_is_named_by_its_row(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.target=y: row 3 of train has no class, but None"):
        targets(tmp_path, ["a", "b", None, "b"] * 5)


def test_a_missing_label_is_named_by_its_row(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.target=y: row 2 of train has a label that is none, None"):
        targets(tmp_path, [["a"], ["b", None], ["a", "b"]] * 5, "multilabel")


def test_data_without_training_examples_name_their_splits(reviews: Path, tmp_path: Path) -> None:
    files = {"test": str(reviews), "validation": str(reviews)}
    told = refusal(tmp_path, data_files=files)
    assert "has the splits test, validation" in told or "has the splits validation, test" in told


# ---- a run's config from a stranger


@pytest.fixture
def server() -> Iterator[Served]:
    """A server with a CSV file at every path."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"text,label\na,0\nb,1\n")

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}", seen
    served.shutdown()
    served.server_close()


def test_without_downloads_nothing_is_fetched_and_nothing_written(
    server: Served, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen = server
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", address)
    (folder := tmp_path / "folder").mkdir()
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: {address}/x.csv\n---\n")
    (folder / "a.csv").write_text("text,label\na,0\n")
    sources: list[dict[str, Any]] = [
        {"path": "csv", "data_files": f"{address}/x.csv"},
        {"path": "csv", "data_files": {"train": [f"zip://a.csv::{address}/x.zip"]}},
        {"path": "csv", "data_files": "hf://datasets/stranger/x.csv"},
        {"path": "stranger/data"},
        {"path": str(folder)},
    ]
    for source in sources:
        with pytest.raises(UserError, match=r"type data\.path="):
            Source(dir=str(tmp_path / "data"), download=False, **source).load()
    local = Source("csv", str(tmp_path / "data"), data_files=str(reviews), download=False).load()
    assert local["train"]["text"][:2] == ["film 0", "film 1"]
    assert seen == []
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "elsewhere").exists()
    with suppress(UserError):
        Source("csv", str(tmp_path / "data"), data_files=f"{address}/x.csv").load()
    assert seen  # the server would have noticed


def test_an_image_whose_file_is_an_address_is_not_fetched(server: Served, tmp_path: Path) -> None:
    address, seen = server
    rows = {"image": [{"path": f"{address}/{i}.png", "bytes": None} for i in range(20)], "label": [0, 1] * 10}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = arrow.table(rows, schema=features.arrow_schema)  # `datasets` would fetch them to write them
    parquet.write_table(table, tmp_path / "evil.parquet")
    told = refusal(tmp_path, path="parquet", data_files=str(tmp_path / "evil.parquet"))
    assert "data.input=image: no image of train can be read; the log names them" in told
    assert seen == []


def test_the_config_of_a_run_has_what_only_the_data_know(reviews: Path, tmp_path: Path) -> None:
    cfg = config(tmp_path, data_files=str(reviews), input="text", target="label")
    assert fill_facts(cfg)
    assert cfg.data._target_ == "train_smarter.data.huggingface.HuggingFaceTexts"
    assert (cfg.data.num_classes, cfg.data.input, "shape" in cfg.data) == (2, ["text"], False)
    reviews.unlink()
    assert not fill_facts(cfg)  # so a later command reads nothing
    build_data(cfg)
