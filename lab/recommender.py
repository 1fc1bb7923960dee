"""How good and how fast is matrix factorization beside its peers? CPU seconds of one thread, each command a process.

    python lab/recommender.py folds --data data       # RMSE on five folds of ml-100k, without and with refit
    python lab/recommender.py quality --data data     # CPU seconds to the RMSE of Surprise's SVD++, fold 0
    python lab/recommender.py size --rows 1000000     # interactions a CPU second and memory on made ratings
    python lab/recommender.py peers --data data       # Surprise's SVD and SVD++ and implicit's ALS, where installed

`--data` holds ml-100k. Surprise and implicit are no extras of this project: install them in another environment. Needs
Linux or macOS.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

FOLDS = 5
SIZES = {1_000_000: (6_040, 3_706), 10_000_000: (70_000, 10_000)}  # users and items, by rows
REFIT = ("data.refit=true", "monitor=train/rmse", "trainer.limit_val_batches=0", "callbacks=none", "logger=none")


@dataclass(frozen=True)
class Measured:
    """What a command took and left.

    cpu, wall: seconds of the whole process, its start included.
    memory: bytes at most.
    results: the content of results.json.
    """

    cpu: float
    wall: float
    memory: int
    results: dict[str, Any]


def train(logs: Path, *words: str) -> Measured:
    """Run `train` on one thread.

    Raises:
        RuntimeError: it failed.
    """
    folder = logs / f"run{len(list(logs.iterdir()))}"
    begun = time.perf_counter()
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "train_smarter.commands.train", *words, f"paths.run={folder}"),
            *("num_threads=1", "report=false", "++callbacks.progress=null"),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"train {' '.join(words)} ended with {status}")
    results = json.loads((folder / "results.json").read_text(encoding="utf8"))
    scale = 1 if sys.platform == "darwin" else 1024
    wall = time.perf_counter() - begun
    return Measured(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * scale, results)


def folds(args: argparse.Namespace, logs: Path) -> Iterator[str]:
    """Five random folds: a tenth of each training fold chooses the epoch, then a refit on all of it."""
    scores: dict[str, list[float]] = {"without refit": [], "with refit": []}
    for fold in range(FOLDS):
        words = [*movielens(args), "data.split=folds", f"data.fold={fold}"]
        first = train(logs, *words)
        epochs = first.results["best_epoch"] + 1
        again = train(logs, *words, *REFIT, f"trainer.max_epochs={epochs}")
        for name, run in (("without refit", first), ("with refit", again)):
            scores[name].append(run.results["test/rmse"])
        shown = ", ".join(f"{values[-1]:.4f} {name}" for name, values in scores.items())
        yield f"fold {fold}: RMSE {shown}; {epochs} epochs, {first.cpu:.1f} and {again.cpu:.1f} CPU seconds"
    for name, values in scores.items():
        yield f"{name}: {statistics.mean(values):.4f} ({statistics.stdev(values):.4f})"


def quality(args: argparse.Namespace, logs: Path) -> Iterator[str]:
    """CPU seconds after some epochs on the whole training fold 0, and the test RMSE there."""
    words = [*movielens(args), "data.split=folds", "data.fold=0", *REFIT]
    start = train(logs, *words, "trainer.max_epochs=1")
    for epochs in (5, 6, 8, 10, 16):
        run = train(logs, *words, f"trainer.max_epochs={epochs}")
        yield (
            f"{epochs} epochs: RMSE {run.results['test/rmse']:.4f}; {run.cpu:.1f} CPU seconds, of which "
            f"{run.cpu - start.cpu:.1f} behind the first epoch, {run.wall:.1f} s"
        )


def size(args: argparse.Namespace, logs: Path) -> Iterator[str]:
    """Epochs of made ratings, training and validation: the difference of a longer and a shorter run."""
    users, items = SIZES.get(args.rows, (args.rows // 140, args.rows // 1000))
    file = logs.parent / "ratings.parquet"
    write_ratings(file, rows=args.rows, users=users, items=items)
    words = ["data=interactions", f"data.file={file}", "model=mf", "optimizer.lr=0.01", "callbacks=none", "logger=none"]
    short, long = (train(logs, *words, "test=false", f"trainer.max_epochs={epochs}") for epochs in (1, 3))
    epoch = (long.cpu - short.cpu) / 2
    rows = long.results["train_examples"]
    yield (
        f"{args.rows:,} ratings of {users:,} users and {items:,} items: {epoch:.2f} CPU seconds an epoch, "
        f"{rows / epoch:,.0f} interactions a CPU second; {short.cpu:.1f} CPU seconds and {short.wall:.1f} s with one "
        f"epoch; {long.memory / 2**20:,.0f} MiB"
    )


def write_ratings(file: Path, *, rows: int, users: int, items: int) -> None:
    """Write random pairs with random stars; what they hold changes nothing about the time."""
    import pyarrow as pa
    from pyarrow import parquet

    draw = np.random.default_rng(0)
    table = {
        "user": draw.integers(0, users, rows),
        "item": draw.integers(0, items, rows),
        "rating": draw.integers(1, 6, rows).astype(np.float32),
    }
    parquet.write_table(pa.table(table), file)


def movielens(args: argparse.Namespace) -> list[str]:
    return ["experiment=movielens_mf", f"paths.data={Path(args.data).resolve()}"]


# ---- peers


def peers(args: argparse.Namespace, logs: Path) -> Iterator[str]:  # noqa: ARG001
    """Surprise on fold 0, and an iteration of implicit's ALS; CPU seconds of the fit alone."""
    rows = read_movielens(Path(args.data))
    order = np.array_split(np.random.RandomState(0).permutation(len(rows)), FOLDS)
    test, train_rows = rows[order[0]], rows[np.concatenate(order[1:])]
    for name, peer in (("Surprise SVD", surprise("SVD")), ("Surprise SVD++", surprise("SVDpp")), ("ALS", als)):
        try:
            yield f"{name}: {peer(train_rows, test)}"
        except ImportError as error:
            yield f"{name}: not measured, {error}"


def surprise(kind: str) -> Callable[[Any, Any], str]:
    def fit(rows: Any, test: Any) -> str:
        pandas, library = import_module("pandas"), import_module("surprise")
        frame = pandas.DataFrame(rows[:, :3], columns=["user", "item", "rating"])
        data = library.Dataset.load_from_df(frame, library.Reader(rating_scale=(1, 5))).build_full_trainset()
        settings = {"cache_ratings": True} if kind == "SVDpp" else {}
        model = getattr(library, kind)(random_state=0, **settings)
        begun = time.process_time()
        model.fit(data)
        seconds = time.process_time() - begun
        errors = [model.predict(user, item).est - rating for user, item, rating in test[:, :3]]
        return f"RMSE {np.sqrt(np.mean(np.square(errors))):.4f} in {seconds:.1f} CPU seconds"

    return fit


def als(rows: Any, test: Any) -> str:  # noqa: ARG001
    factorization, sparse = import_module("implicit.als"), import_module("scipy.sparse")
    users, items = rows[:, 0].astype(int), rows[:, 1].astype(int)
    matrix = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (users, items)))
    model = factorization.AlternatingLeastSquares(factors=64, iterations=10, num_threads=1, random_state=0)
    begun = time.process_time()
    model.fit(matrix, show_progress=False)
    return f"{(time.process_time() - begun) / 10:.3f} CPU seconds an iteration"


def read_movielens(folder: Path) -> Any:
    """(N, 4): user, item, rating, time."""
    for name, header in (("u.data", 0), ("ml-100k.inter", 1)):
        if (path := folder / "ml-100k" / name).is_file():
            return np.loadtxt(path, delimiter="\t", skiprows=header)
    raise SystemExit(f"{folder} holds no ml-100k/u.data; type --data")


COMMANDS: dict[str, Callable[[argparse.Namespace, Path], Iterator[str]]] = {
    "folds": folds,
    "quality": quality,
    "size": size,
    "peers": peers,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--data", default="data", help="folder that holds ml-100k")
    parser.add_argument("--rows", type=int, default=1_000_000, help="made ratings")
    args = parser.parse_args(argv)
    with TemporaryDirectory() as scratch:
        (logs := Path(scratch) / "logs").mkdir()
        for line in COMMANDS[args.command](args, logs):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
