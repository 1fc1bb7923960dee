from pathlib import Path
from typing import Any

import pytest

from my_project.data.movielens import MovieLens
from train_smarter import UserError

ROWS = [(user, item, (user * item) % 5 + 1, 100 * user + item) for user in range(1, 13) for item in range(1, 21)]
FACTS = {"num_users": 12, "num_items": 20, "md5": None}
LAYOUTS = {  # file of the ratings, a row of it, what comes first; file of the titles, its rows
    "u.data": ("{}\t{}\t{}\t{}\n", "", "u.item", "1|Toy Story: the beginning (1995)|01-Jan-1995||\n2|Ça|\n", "latin-1"),
    "ratings.dat": (
        "{}::{}::{}::{}\n",
        "",
        "movies.dat",
        "1::Toy Story: the beginning (1995)::Drama\n2::Ça::\n",
        "latin-1",
    ),
    "ratings.csv": (
        "{},{},{},{}\n",
        "userId,movieId,rating,timestamp\n",
        "movies.csv",
        'movieId,title,genres\n1,Toy Story: the beginning (1995),x\n2,"Ça",y\n',
        "utf-8",
    ),
    "small.inter": (
        "{}\t{}\t{}\t{}\n",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n",
        "small.item",
        "item_id:token\tmovie_title:token_seq\n1\tToy Story: the beginning (1995)\n2\tÇa\n",
        "utf-8",
    ),
}


def write(folder: Path, layout: str = "u.data") -> None:
    row, header, titles, content, encoding = LAYOUTS[layout]
    folder.mkdir(parents=True)
    (folder / layout).write_text(header + "".join(row.format(*cells) for cells in ROWS), encoding=encoding)
    (folder / titles).write_text(content, encoding=encoding)


def write_sample(folder: Path) -> list[str]:
    """The layout of ml-100k, with 12 users and 20 films."""
    write(folder / "ml-100k")
    return ["data.releases.ml-100k.num_users=12", "data.releases.ml-100k.num_items=20"]


def movielens(folder: Path, **settings: Any) -> MovieLens:
    return MovieLens(release="small", dir=str(folder), urls=[], releases={"small": FACTS}, download=False, **settings)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_a_release_is_read(tmp_path: Path, layout: str) -> None:
    write(tmp_path / "small", layout)
    data = movielens(tmp_path).read_interactions()
    assert (data.num_users, data.num_items) == (12, 20)
    assert [data.user_names[user] for user in data.users] == [str(row[0]) for row in ROWS]
    assert [data.item_names[item] for item in data.items] == [str(row[1]) for row in ROWS]
    assert data.values is not None
    assert data.times is not None
    assert data.values.tolist() == [row[2] for row in ROWS]
    assert data.times.tolist() == [row[3] for row in ROWS]
    assert data.item_titles is not None
    assert data.item_titles[:3] == ["Toy Story: the beginning (1995)", "Ça", "3"]


def test_the_folder_of_a_release_may_be_named_itself(tmp_path: Path) -> None:
    write(tmp_path / "anywhere")
    assert len(movielens(tmp_path / "anywhere").read_interactions()) == len(ROWS)


def test_without_a_file_of_titles_items_have_none(tmp_path: Path) -> None:
    write(tmp_path / "small")
    (tmp_path / "small" / "u.item").unlink()
    assert movielens(tmp_path).read_interactions().item_titles is None


def test_a_missing_release_is_answered_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"small has none of u\.data, .*small\.inter: give data\.dir=<folder of small>"):
        movielens(tmp_path).setup()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "small")
    (tmp_path / "small" / "u.data").write_text("1\t2\tmany\t3\n")
    with pytest.raises(UserError, match=r"u\.data is not a file of MovieLens: .*many.*; delete it"):
        movielens(tmp_path).setup()


@pytest.mark.parametrize("release", ["../small", "/etc", "..", ""])
def test_a_release_is_never_a_path(tmp_path: Path, release: str) -> None:
    write(tmp_path / "small")
    with pytest.raises(UserError, match=r"data\.release="):
        MovieLens(release=release, dir=str(tmp_path / "data"), urls=[], releases={release: FACTS})
