"""Predictions of a recommender: ratings of pairs, and the best items of users."""

import csv
import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from pyarrow import parquet

from sample_project.model.factors import Factors
from train_smarter.commands import predict
from train_smarter.config.build import build_data, build_model
from train_smarter.data.interaction_table import InteractionTable
from train_smarter.errors import UserError
from train_smarter.inference import predictor, writer
from train_smarter.inference.reader import InputReader, empty_input_message, iter_split
from train_smarter.run.files import write_json
from train_smarter.task.classification import Classification
from train_smarter.task.rating import Rating

Compose = Callable[..., DictConfig]
Rows = list[dict[str, Any]]
ITEMS = ["007", "b", "c d", "=e", "5", "6"]


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """Eight users with five items each, all but one; that one is 007 of user 1, b of user 2, ..., in order of time."""
    file = tmp_path / "ratings.csv"
    lines = ["user,item,rating,timestamp,title"]
    for user in range(8):
        items = [item for place, item in enumerate(ITEMS) if place != user % len(ITEMS)]
        lines += [f"{user + 1},{item},{place + 1},{place},title of {item}" for place, item in enumerate(items)]
    file.write_text("\n".join(lines), encoding="utf8")
    return file


def set_weights(model: Any, names: list[str], *, factors: float = 0.0) -> None:
    """Set the biases 0, -0.1, -0.2, ... of `ITEMS`, and multiply the initial factors; the mean rating is 3."""
    model.task.fit([torch.tensor([[1.0], [3.0], [5.0]])])
    with torch.no_grad():
        model.bias.copy_(-0.1 * torch.tensor([ITEMS.index(name) for name in names]))
        model.users.weight.mul_(factors)
        model.items.weight.mul_(factors)


@pytest.fixture
def predicted(ratings: Path) -> Callable[..., Rows]:
    """Predict with a model of the weights of `set_weights`, as the command does; return the rows that are written."""

    def run(
        given: str | None = None,
        *,
        top: int | None = None,
        form: str = "csv",
        factors: float = 0.0,
        history: bool = False,
        data_exist: bool = True,
    ) -> Rows:
        known, data = (InteractionTable(file=str(ratings)) for _ in range(2))
        known.setup()
        data.load_preprocess(json.loads(json.dumps(known.preprocess())))
        torch.manual_seed(1)
        model = Factors(num_users=8, num_items=6, history=history, task=Rating()).eval()
        set_weights(model, data.names, factors=factors)
        if top is not None:
            model.task.set_top(top)
        if not data_exist:
            ratings.unlink()
        own = given is not None
        batches: Any = (
            InputReader(data, data.iter_inputs(str(given)))
            if own
            else iter_split(data, "test", task=model.task, names=data.names)
        )
        device = torch.device("cpu")
        found = predictor.predict(data, model, batches, device=device, names=data.names, format=form, own_input=own)
        return read_back(found, form, lambda: empty_input_message(given, batches))

    return run


def read_back(found: Iterator[predictor.Predictions], form: str, empty: Callable[[], str]) -> Rows:
    file = io.StringIO(newline="")
    if not writer.write(file, form, found, quiet=True, folders=writer.PredictionFolders(None)):
        raise UserError(empty())
    text = file.getvalue()
    lines: Iterable[dict[str, Any]] = (
        map(json.loads, text.splitlines()) if form == "jsonl" else csv.DictReader(io.StringIO(text))
    )
    return list(lines)


def write(tmp_path: Path, content: str, name: str = "input.csv") -> str:
    (tmp_path / name).write_text(content, encoding="utf8")
    return str(tmp_path / name)


# ---- ratings of pairs


def test_a_pair_gets_a_rating_and_an_unknown_id_a_note(predicted: Callable[..., Rows], tmp_path: Path) -> None:
    given = write(tmp_path, "item,user\n007,1\nc d,2\n7,2\n007,nobody\nx,y\n007,1\n")
    table = predicted(given)
    assert list(table[0]) == ["row", "user", "item", "title", "prediction", "note"]
    rows = [(row["item"], row["title"], float(row["prediction"]), row["note"]) for row in table]
    assert rows == [
        ("007", "title of 007", 3.0, ""),  # the mean is 3, and 7 is not 007
        ("c d", "title of c d", 2.8, ""),
        ("7", "", 3.0, "unknown item"),
        ("007", "title of 007", 3.0, "unknown user"),
        ("x", "", 3.0, "unknown user and item"),
        ("007", "title of 007", 3.0, ""),
    ]


def test_a_split_of_ratings_names_user_and_item(predicted: Callable[..., Rows]) -> None:
    table = predicted()
    assert list(table[0]) == ["index", "user", "item", "title", "true", "prediction"]
    assert {row["user"] for row in table} == {str(user) for user in range(1, 9)}
    assert all(row["title"] == f"title of {row['item'].removeprefix(chr(39))}" for row in table)


def test_a_rating_without_an_item_is_refused(predicted: Callable[..., Rows], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the items in a column item; or type top=10"):
        predicted(write(tmp_path, "user\n1\n"))


# ---- the best items of a user


def test_the_top_of_a_user_leaves_out_what_the_data_know_of_it(predicted: Callable[..., Rows], tmp_path: Path) -> None:
    table = predicted(write(tmp_path, "user\n2\n1\n2\n"), top=3, form="jsonl", factors=1.0)
    assert [(row["row"], row["user"], row["item"], row["title"], row["rank"]) for row in table] == [
        (1, "2", ["b"], ["title of b"], [1]),
        (2, "1", ["007"], ["title of 007"], [1]),
        (3, "2", ["b"], ["title of b"], [1]),
    ]
    assert all(row["note"] == "" for row in table)


def test_the_top_is_in_the_order_of_the_scores_and_has_a_row_an_item(
    predicted: Callable[..., Rows], tmp_path: Path
) -> None:
    given = write(tmp_path, 'user,history\n1,b 5\nnobody,"[""c d"", ""007""]"\n3,c d\n')
    table = predicted(given, top=2)
    assert [(row["user"], row["rank"], row["item"], round(float(row["score"]), 4)) for row in table] == [
        ("1", "1", "007", 3.0),
        ("1", "2", "c d", 2.8),
        ("nobody", "1", "b", 2.9),
        ("nobody", "2", "'=e", 2.7),
        ("3", "1", "007", 3.0),
        ("3", "2", "b", 2.9),
    ]


def test_a_top_larger_than_the_items_lists_all_that_are_left(predicted: Callable[..., Rows], tmp_path: Path) -> None:
    given = write(
        tmp_path,
        '{"user": "1", "history": ["007"]}\n{"user": "1", "history": ["007", "b", "c d", "=e", 5, 6]}\n',
        "a.jsonl",
    )
    one, none = predicted(given, top=99, form="jsonl")
    assert one["item"] == ["b", "c d", "=e", "5", "6"]
    assert (none["item"], none["note"]) == ([], "no item is left: the history holds all of them")
    table = predicted(given, top=99)
    assert (table[-1]["row"], table[-1]["item"], table[-1]["rank"]) == ("2", "", "")


@pytest.mark.parametrize(
    ("history", "row", "note"),
    [
        (False, "new,", "unknown user without known items in a history"),
        (False, "new,b", "unknown user, and the model does not use a history"),
        (False, "1,b", ""),
        (True, "new,", "unknown user without known items in a history"),
        (True, "new,x y", "unknown user without known items in a history"),
        (True, "new,b", ""),
        (True, ",b", ""),
    ],
)
def test_who_gets_the_items_of_everyone_is_noted(
    predicted: Callable[..., Rows], tmp_path: Path, history: bool, row: str, note: str
) -> None:
    table = predicted(write(tmp_path, f"user,history\n{row}\n"), top=1, history=history, factors=1.0)
    assert table[0]["note"].rpartition(": ")[2] == note


def test_an_empty_history_is_that_of_the_data_and_an_empty_list_is_empty(
    predicted: Callable[..., Rows], tmp_path: Path
) -> None:
    given = write(tmp_path, '{"user": "4", "history": "b"}\n{"user": "4"}\n{"user": "4", "history": []}\n', "a.jsonl")
    assert [row["item"] for row in predicted(given, top=1, form="jsonl")] == [["007"], ["=e"], ["007"]]


def test_lists_of_a_parquet_file_are_refused_and_not_ignored(predicted: Callable[..., Rows], tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"user": ["1"], "history": [["b"]]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="the column 'history' holds lists; write the ids with spaces"):
        predicted(str(tmp_path / "a.parquet"), top=1)


def test_a_known_user_may_be_typed(predicted: Callable[..., Rows]) -> None:
    table = predicted("5", top=1)
    assert [(row["user"], row["item"]) for row in table] == [("5", "5")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nobody", "no such file, and no user with this id in training"),
        ("users.csv", "there is no such file"),
        (None, "a split has pairs"),
    ],
)
def test_what_cannot_be_ranked_is_refused(predicted: Callable[..., Rows], given: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        predicted(given, top=3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("user\n", "has no row"),
        ("a,b\n1,2\n", "no column is called user"),
        ("user,item,history\n1,b,c\n", "give items to rate them, or histories"),
        ("user,item\n1,b\n", "items are ranked for users, and not for pairs"),
        ("user,history\n,\n", "none of 1 interactions could be read; the last is row 1: it has neither"),
        ('user,history\n1,"[b"\n', "is no JSON list"),
    ],
)
def test_a_file_that_names_no_users_is_refused(
    predicted: Callable[..., Rows], tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        predicted(write(tmp_path, content), top=2)


def test_a_broken_row_is_left_out_and_named(
    predicted: Callable[..., Rows], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        table = predicted(write(tmp_path, "user,item\n1,b\n1,\n,b\nnew,b\n"))
    assert "row 2: it has no item (left out)" in caplog.text
    assert "row 3: it has no user (left out)" in caplog.text
    assert [row["row"] for row in table] == ["1", "4"]


def test_users_without_their_data_need_a_history(predicted: Callable[..., Rows], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="or give them in a column history"):
        predicted(write(tmp_path, "user\n1\n"), top=2, data_exist=False)


def test_a_history_needs_no_data(predicted: Callable[..., Rows], tmp_path: Path) -> None:
    assert predicted(write(tmp_path, "user,history\n1,b\n"), top=1, data_exist=False)[0]["item"] == "007"


def test_a_task_that_ranks_nothing_refuses_top() -> None:
    with pytest.raises(UserError, match="top=3: Classification ranks no items"):
        Classification(num_classes=2).set_top(3)


def test_predict_takes_users_and_top(compose: Compose, ratings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    words = ["data=interactions", f"data.file={ratings}", "model=factors", "trainer=cpu"]
    cfg = compose(*words)
    data, model = build_data(cfg), build_model(cfg)
    data.setup()
    set_weights(model, data.names)
    for name in (".hydra", "checkpoints"):
        (folder / name).mkdir(parents=True)
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    OmegaConf.save(words, folder / ".hydra" / "overrides.yaml")
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    write_json(folder / "preprocess.json", data.preprocess())
    torch.save({"state_dict": model.state_dict()}, folder / "checkpoints" / "best.ckpt")
    typed = [f"run={folder}", f"input={write(tmp_path, 'user,history' + chr(10) + '1,b')}"]
    kept = [word for word in predict.rewrite_argv(typed) if "hydra." not in word]
    cfg = compose(*kept, verb="predict")
    for top, message in ((0, "top=0: give a whole number of at least 1"), (True, "top=True: give a whole number")):
        cfg.top = top
        with pytest.raises(UserError, match=message):
            predict.run_predict(cfg)
    cfg.top = 2
    predict.run_predict(cfg)
    note = "items with the highest ratings of all users: the model makes no difference between users"
    assert (folder / "predict" / "predictions.csv").read_text(encoding="utf8").splitlines() == [
        "row,user,item,title,score,rank,note",
        f"1,1,007,title of 007,3,1,{note}",
        f"1,1,c d,title of c d,2.8,2,{note}",
    ]
