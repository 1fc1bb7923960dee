"""Compares the results of the same runs by two versions of the project, through a table of renamed names.

    python lab/same_results.py before/ after/          # folders that hold run folders of the same names
    python lab/same_results.py before/ after/ --renames lab/renames.csv

Times and paths may differ; every other value of results.json, metrics.csv and layers.csv has to be equal.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RENAMES = Path(__file__).with_name("renames.csv")
MAY_DIFFER = ("seconds", "time", "checkpoint")
FILES = ("results.json", "metrics.csv", "layers.csv")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--renames", type=Path, default=RENAMES, help="a table: kind, old, new")
    args = parser.parse_args(argv)
    renames = read_renames(args.renames)
    runs = sorted(file.parent.name for file in args.before.glob("*/results.json"))
    if not runs:
        print(f"{args.before} holds no run folder")
        return 2
    found = [line for run in runs for line in differences(args.before / run, args.after / run, renames)]
    print("\n".join(found) if found else f"{', '.join(runs)}: no value differs")
    return 1 if found else 0


def read_renames(file: Path) -> dict[str, str]:
    with file.open(newline="", encoding="utf8") as table:
        return {row["old"]: row["new"] for row in csv.DictReader(table) if row["kind"] == "result"}


def differences(before: Path, after: Path, renames: Mapping[str, str]) -> Iterator[str]:
    """A line for each value that differs, and for each file that only one of the runs has."""
    for name in FILES:
        there = [(folder / name).is_file() for folder in (before, after)]
        if there[0] != there[1]:
            yield f"{before.name}/{name}: only {'before' if there[0] else 'after'}"
        elif all(there):
            old, new = values(before / name, renames), values(after / name, {})
            for key in sorted(old.keys() | new.keys()):
                if old.get(key) != new.get(key):
                    yield f"{before.name}/{name} {key}: {old.get(key)} before, {new.get(key)} after"


def values(file: Path, renames: Mapping[str, str]) -> dict[str, Any]:
    """Every value by its name, and the number of its row in a table."""
    if file.suffix == ".json":
        rows = [json.loads(file.read_text(encoding="utf8"))]
    else:
        with file.open(newline="", encoding="utf8") as table:
            rows = list(csv.DictReader(table))
    named = [
        (f"{number} {renames.get(key, key)}", value) for number, row in enumerate(rows) for key, value in row.items()
    ]
    return {key: value for key, value in named if not any(word in key for word in MAY_DIFFER)}


if __name__ == "__main__":
    sys.exit(main())
