"""How fast is this project beside what else there is? Every number is a ratio, measured side by side in one run.

    python lab/benchmark.py               # everything: some hours on two cores
    python lab/benchmark.py cnn mlp       # some sections; --list names them all
    python lab/benchmark.py lstm --rounds 3 --no-write

Keras and TensorFlow, the peers that the project itself does not need, are an extra:

    uv pip install -e '.[benchmark]' --constraint requirements.lock

Writes docs/benchmarks.md, and all goals into docs/results.md, each between its marks. Needs Linux or macOS.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from measure import epochs, growth, pieces, search, start
from measure.section import NotMeasuredError, Options, Section
from measure.table import goals_table, headline, marked

ROOT = Path(__file__).resolve().parents[1]
DOCS, RESULTS = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "results.md"
TITLE = """# Benchmarks

Written by `python lab/benchmark.py`; a section alone by its name behind that. Each number is a ratio of our time to
a peer's in the same round: median (least to most).
"""
PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "optuna", "numpy", "keras", "tensorflow")
SECTIONS: dict[str, Callable[[Options], Section]] = {
    **epochs.SECTIONS,
    **pieces.SECTIONS,
    **search.SECTIONS,
    **start.SECTIONS,
    **growth.SECTIONS,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = arguments().parse_args(argv)
    if args.list:
        print("\n".join(SECTIONS))
        return 0
    offered = SECTIONS if args.device == "cpu" else epochs.SECTIONS
    names = list(dict.fromkeys(args.sections)) or list(offered)
    if unknown := [name for name in names if name not in SECTIONS]:
        print(f"benchmark.py: no section {', '.join(unknown)}; there are: {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    if elsewhere := [name for name in names if name not in offered]:
        print(f"benchmark.py: {', '.join(elsewhere)}: on the CPU alone; leave --device out", file=sys.stderr)
        return 2
    if args.rounds < 1:
        print(f"benchmark.py: --rounds {args.rounds}, but at least 1 round is needed", file=sys.stderr)
        return 2
    print(machine())
    failed = False
    for name in names:
        print(f"\n==> {name}", flush=True)
        try:
            section = offered[name](Options(rounds=args.rounds, device=args.device))
        except NotMeasuredError as why:  # what was measured before stays in the docs
            print(f"benchmark.py: {name} was not measured: {why}", file=sys.stderr)
            failed = True
            continue
        text = markdown(section)
        print(f"\n{text}")
        if not args.no_write:
            write(name if args.device == "cpu" else f"{name}_{args.device}", text)
    return int(failed)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measures this project beside its peers, as ratios within one run.")
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; none: all")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds, behind one to warm up (default: 5)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the races (default: cpu)")
    parser.add_argument("--list", action="store_true", help="names the sections")
    parser.add_argument("--no-write", action="store_true", help="shows the tables, leaves docs/ as it is")
    return parser


def machine() -> str:
    """Hardware and versions, in one line."""
    found = [f"{name} {version(name)}" for name in PACKAGES if there(name)]
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{processor()}, {os.cpu_count()} cores; Python {python}, {', '.join(found)}; {date.today()}"


def there(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else os.uname().machine


def markdown(section: Section) -> str:
    """A section as it stands in the docs."""
    parts = [f"## {section.title}", section.text, goals_table(section.goals) if section.goals else "", *section.tables]
    return "\n\n".join(part.strip() for part in [*parts, f"Measured on {machine()}."] if part.strip())


def write(name: str, text: str) -> None:
    """Put a section in its place in the docs, and all goals measured so far into the results."""
    docs = DOCS.read_text(encoding="utf8") if DOCS.exists() else TITLE
    docs = marked(docs, f"benchmark:{name}", text)
    DOCS.write_text(docs, encoding="utf8")
    results = RESULTS.read_text(encoding="utf8")
    if "<!-- benchmark:begin -->" in results:
        RESULTS.write_text(marked(results, "benchmark", headline(docs)), encoding="utf8")


if __name__ == "__main__":
    sys.exit(main())
