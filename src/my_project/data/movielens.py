"""MovieLens: who gave which film how many stars."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import csv as arrow

from train_smarter import InteractionData, Interactions, UserError, data_dir, fetch, index_ids, published_md5, unpack

COLUMNS = ("user", "item", "rating", "time")


@dataclass(frozen=True)
class Layout:
    """How a release is written.

    ratings: file; a row has user, film, stars and seconds, between `delimiter`s, and empty cells where `doubled`.
    titles: file of films; a row has the film and its title.
    """

    ratings: str
    delimiter: str
    header: bool
    titles: str
    titles_delimiter: str
    encoding: str = "utf-8"
    doubled: bool = False


LAYOUTS = (
    Layout("u.data", "\t", False, "u.item", "|", "latin-1"),
    Layout("ratings.dat", ":", False, "movies.dat", "::", "latin-1", doubled=True),
    Layout("ratings.csv", ",", True, "movies.csv", ","),
    Layout("{release}.inter", "\t", True, "{release}.item", "\t"),
)


class MovieLens(InteractionData):
    """A release of MovieLens; downloaded where it is missing.

    Source: Harper and Konstan, The MovieLens datasets: history and context, 2015. Not for commercial use, and not to be
    redistributed: see the README of each release.

    Args:
        release: ml-100k, ml-1m, ml-latest-small or ml-32m.
        dir: holds the release's folder, or is it; the archive is downloaded to it and unpacked.
        urls: folders in which <release>.zip is found, in the order in which they are tried.
        releases: for each release its numbers of users and films, and the md5 of its archive; None: the one that is
            published beside it.
    """

    def __init__(
        self,
        *,
        release: str,
        dir: str,  # noqa: A002
        urls: Sequence[str],
        releases: Mapping[str, Mapping[str, Any]],
        **data: Any,
    ) -> None:
        super().__init__(**data)
        if not re.fullmatch(r"\w[\w.-]*", release):  # a part of paths: a run's config may come from a stranger
            raise UserError(f"data.release={release}: give one of {', '.join(releases)}")
        self.release, self.folder, self.urls = release, data_dir(dir), urls
        self.md5 = releases[release]["md5"]

    def download(self) -> None:
        if self._found() is not None:
            return
        hint = "data=ratings needs no download"
        urls = [f"{url.rstrip('/')}/{self.release}.zip" for url in self.urls]
        md5 = self.md5 or published_md5(f"{urls[0]}.md5", hint=hint)
        unpack(fetch(urls, self.folder / f"{self.release}.zip", md5=md5, hint=hint), self.folder / self.release)

    def fingerprint(self) -> Any:
        found = self._found()
        return None if found is None else [str(found[0]), found[0].stat().st_mtime_ns]

    def read_interactions(self) -> Interactions:
        found = self._found()
        if found is None:
            names = ", ".join(layout.ratings.format(release=self.release) for layout in LAYOUTS)
            raise UserError(
                f"{self.folder / self.release} has none of {names}: give data.dir=<folder of {self.release}>"
            )
        path, layout = found
        table = _read_ratings(path, layout)
        users, user_names = index_ids(table["user"])
        items, item_names = index_ids(table["item"])
        titles = dict(_read_titles(path.with_name(layout.titles.format(release=self.release)), layout))
        return Interactions(
            users=users,
            items=items,
            values=torch.from_numpy(table["rating"].to_numpy().copy()),
            times=torch.from_numpy(table["time"].to_numpy().astype(np.float64)),
            user_names=user_names,
            item_names=item_names,
            item_titles=[titles.get(name, name) for name in item_names] if titles else None,
        )

    def _found(self) -> tuple[Path, Layout] | None:
        """The file of the ratings, and how it is written."""
        for folder in (self.folder / self.release, self.folder):
            for layout in LAYOUTS:
                if (path := folder / layout.ratings.format(release=self.release)).is_file():
                    return path, layout
        return None


def _read_ratings(path: Path, layout: Layout) -> Any:
    """A pyarrow.Table with `COLUMNS`.

    Raises:
        UserError: the file is damaged.
    """
    gaps = ("", "gap1", "gap2", "gap3") if layout.doubled else ("",) * 4
    names = [name for gap, column in zip(gaps, COLUMNS, strict=True) for name in (gap, column) if name]
    types = {"user": pa.int32(), "item": pa.int32(), "rating": pa.float32(), "time": pa.int64()}
    try:
        return arrow.read_csv(
            path,
            arrow.ReadOptions(column_names=names, skip_rows=int(layout.header)),
            arrow.ParseOptions(delimiter=layout.delimiter),
            arrow.ConvertOptions(column_types=types, include_columns=COLUMNS),
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{path} is not a file of MovieLens: {error}; delete it, and start again to unpack it"
        ) from error


def _read_titles(path: Path, layout: Layout) -> Iterator[tuple[str, str]]:
    """Films and their titles; none where the file is missing."""
    if not path.is_file():
        return
    with path.open(encoding=layout.encoding, newline="") as file:
        if layout.titles_delimiter == ",":
            rows: Iterator[list[str]] = csv.reader(file)
        else:
            rows = (line.rstrip("\r\n").split(layout.titles_delimiter) for line in file)
        yield from ((row[0], row[1]) for row in rows if len(row) > 1)
