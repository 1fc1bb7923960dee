"""How good is the diagnosis? Trains runs with a planted fault and healthy ones, and counts what is found.

    python lab/faults.py                  # all of lab/faults.yaml, then each fault with its first advice
    python lab/faults.py --half tune      # or test, fresh, last, tasks, tasks_last
    python lab/faults.py rate_10_digits   # some; --list names them all
    python lab/faults.py --no-training    # judges what logs/faults holds, by today's rules

Writes docs/diagnosis.md, each half between its marks, unless runs are named.
"""

import argparse
import json
import math
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from measure.table import marked, table

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
LIST, RUNS, DOCS = ROOT / "lab" / "faults.yaml", ROOT / "logs" / "faults", ROOT / "docs" / "diagnosis.md"
HALVES = ("tune", "test", "fresh", "last", "tasks", "tasks_last")


@dataclass(frozen=True)
class Case:
    """A run of the list. finds: the finding that is planted; None: it is healthy."""

    name: str
    half: str
    type: str
    finds: str | None = None
    also: Sequence[str] = ()
    new: str | None = None
    plant: Mapping[str, Any] | None = None

    def words(self, every: str) -> list[str]:
        return [_deep(word) for word in f"{every} {self.type}".split()]


def _deep(word: str) -> str:
    """model.widths=30*64: a list of thirty."""
    return re.sub(r"=(\d+)\*(\d+)$", lambda found: f"=[{','.join([found[2]] * int(found[1]))}]", word)


def cases() -> list[Case]:
    content: Any = OmegaConf.to_container(OmegaConf.load(LIST))
    return [Case(name, **case) for kind in ("planted", "healthy") for name, case in content[kind].items()]


def every() -> str:
    return str(OmegaConf.load(LIST).every)


def run(case: Case, folder: Path, extra: Sequence[str] = ()) -> None:
    """Trains a case into a folder, with `extra` overrides on top."""
    from lightning import seed_everything

    from measure.plant import plant
    from train_smarter.callbacks.epoch_logger import EpochLogger
    from train_smarter.commands.train import fit
    from train_smarter.config.build import build
    from train_smarter.run.files import write_json
    from train_smarter.speed.startup import configure_process

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cfg = composed([*case.words(every()), *extra, f"paths.run={folder}"])
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    configure_process(cfg.num_threads)
    seed_everything(cfg.seed, verbose=False)
    built = build(cfg, EpochLogger(folder))
    plant(built, {"keep_test": 500, **(case.plant or {})} if case.plant else {})
    began = time.perf_counter()
    results = fit(built, monitor=cfg.monitor)
    results.seconds = time.perf_counter() - began
    write_json(folder / "results.json", results.to_json())


def composed(words: Sequence[str]) -> DictConfig:
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    from train_smarter.paths import CONF

    GlobalHydra.instance().clear()
    hydra.initialize_config_dir(str(CONF))
    cfg = hydra.compose("train", list(words), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    return cfg


# ---- what was found


@dataclass(frozen=True)
class Outcome:
    """What the diagnosis said of a run.

    names: findings above a note, and the planted note; problems: those of that severity; advice: on the planted one.
    """

    case: Case
    names: frozenset[str]
    problems: frozenset[str]
    advice: Sequence[str]

    @property
    def hit(self) -> bool:
        return self.case.finds in self.names

    @property
    def wrong(self) -> frozenset[str]:
        return self.names - {self.case.finds, *self.case.also}


def outcome(case: Case) -> Outcome:
    """By today's rules, from the folder of a run that was trained."""
    from train_smarter.diagnosis.findings import Limits
    from train_smarter.diagnosis.measurements import Evidence, Measurements
    from train_smarter.diagnosis.rules import diagnose
    from train_smarter.diagnosis.suggestions import suggest

    folder = RUNS / case.name
    facts = Measurements(**json.loads((folder / "diagnosis.json").read_text())["measured"])
    limits = Limits(**OmegaConf.load(CONF / "callbacks" / "diagnosis.yaml").diagnosis.limits)
    findings = diagnose(Evidence.read(folder, facts), limits)
    told = [finding for finding in findings if finding.severity != "note" or finding.name == case.finds]
    planted = [finding for finding in told if finding.name == case.finds] or told
    config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    return Outcome(
        case,
        frozenset(finding.name for finding in told),
        frozenset(finding.name for finding in told if finding.severity == "problem"),
        suggest(planted[0], config, facts) if planted else [],
    )


def helped(case: Case, override: str) -> bool:
    """Whether a run with the advice validates better: a better best value, or as good a one and a lower loss."""
    folder = RUNS / f"{case.name}+"
    run(case, folder, [override])
    (before, loss), (after, lower) = (_best(RUNS / case.name), _best(folder))
    name, mode = _monitor(RUNS / case.name)
    print(
        f"  {case.name} {override}: {name} {before:.4f} -> {after:.4f}, val/loss {loss:.4g} -> {lower:.4g}", flush=True
    )
    better = after < before if mode == "min" else after > before
    return better or (after == before and lower < loss)


def _monitor(folder: Path) -> tuple[str, str]:
    """The metric that decides, and its direction; of a folder without a config, the accuracy."""
    file = folder / "config.yaml"
    config: Any = OmegaConf.load(file) if file.is_file() else {}
    return config.get("monitor", "val/accuracy"), config.get("mode", "max")


def _best(folder: Path) -> tuple[float, float]:
    """The best value of the monitored metric, and the smallest validation loss."""
    from train_smarter.run.files import read_csv

    curve = [row for row in read_csv(folder / "metrics.csv") if row["val/loss"]]  # not every epoch need be validated
    losses = [float(row["val/loss"]) for row in curve if math.isfinite(float(row["val/loss"]))]
    name, mode = _monitor(folder)
    values = [float(row[name]) for row in curve if math.isfinite(float(row[name]))]
    worst = math.inf if mode == "min" else -math.inf
    return (min if mode == "min" else max)(values, default=worst), min(losses, default=math.inf)


# ---- what it comes to


def figures(outcomes: Sequence[Outcome]) -> str:
    """A row a finding: the share of the runs with this fault that have it, and of its reports that are right."""
    rows = []
    for name in sorted({o.case.finds for o in outcomes if o.case.finds} | {name for o in outcomes for name in o.names}):
        planted = [o for o in outcomes if o.case.finds == name]
        told = [o for o in outcomes if name in o.names]
        right = [o for o in told if name not in o.wrong]
        rows.append([f"`{name}`", _share(sum(o.hit for o in planted), len(planted)), _share(len(right), len(told))])
    planted = [o for o in outcomes if o.case.finds]
    all_told, all_wrong = (sum(map(len, sets)) for sets in ([o.names for o in outcomes], [o.wrong for o in outcomes]))
    hits = _share(sum(o.hit for o in planted), len(planted))
    rows.append(["**all**", hits, _share(all_told - all_wrong, all_told)])
    return table(("finding", "found, of runs with this fault", "right, of times it was reported"), rows)


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.2f})" if whole else "-"


def healthy(outcomes: Sequence[Outcome]) -> str:
    runs = [o for o in outcomes if not o.case.finds]
    problems = [f"`{o.case.name}`: {', '.join(sorted(o.problems))}" for o in runs if o.problems]
    warnings = [f"`{o.case.name}`: {', '.join(sorted(o.names - o.problems))}" for o in runs if o.names - o.problems]
    counts = f"{len(problems)} with a false problem{_named(problems)}, {len(warnings)} with a false warning"
    return f"{len(runs)} healthy runs: {counts}{_named(warnings)}."


def _named(things: Sequence[str]) -> str:
    return f" ({'; '.join(things)})" if things else ""


def missed(outcomes: Sequence[Outcome]) -> str:
    lines = [
        f"`{o.case.name}` ({o.case.finds}): {', '.join(sorted(o.names)) or 'nothing'}"
        for o in outcomes
        if o.case.finds and not o.hit
    ]
    return f"Missed: {'; '.join(lines)}." if lines else "Missed: none."


def advised(outcomes: Sequence[Outcome]) -> str:
    """Trains each planted fault again with the first advice."""
    planted = [o for o in outcomes if o.case.finds]
    tried = [(o, helped(o.case, o.advice[0])) for o in planted if o.advice]
    failed = [f"`{o.case.name}` `{o.advice[0]}`" for o, better in tried if not better]
    return (
        f"The first advice improved validation in {_share(sum(better for _, better in tried), len(tried))}"
        f"{_named(failed)}; in {len(planted) - len(tried)} more runs there was none to give."
    )


def report(outcomes: Sequence[Outcome], *, advice: bool) -> str:
    new = sum(o.case.new is not None for o in outcomes)
    runs = f"{sum(o.case.finds is not None for o in outcomes)} runs with a planted fault"
    apart = f", {new} of them with a kind of fault, a model or a data set that the tuning half lacks"
    parts = [f"{runs}{apart if new else ''}.", figures(outcomes), missed(outcomes), healthy(outcomes)]
    return "\n\n".join([*parts, advised(outcomes)] if advice else parts)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = arguments().parse_args(argv)
    known = cases()
    if unknown := [name for name in args.names if name not in {case.name for case in known}]:
        print(f"faults.py: no run {', '.join(unknown)}; --list names them all", file=sys.stderr)
        return 2
    chosen = [case for case in known if (not args.names or case.name in args.names) and args.half in (None, case.half)]
    if args.list:
        print("\n".join(f"{case.half:5} {case.finds or 'healthy':24} {case.name}" for case in chosen))
        return 0
    for case in [] if args.no_training else chosen:
        began = time.perf_counter()
        run(case, RUNS / case.name)
        print(f"{case.name}: {time.perf_counter() - began:.0f} s", flush=True)
    for half in sorted({case.half for case in chosen}):
        outcomes = [outcome(case) for case in chosen if case.half == half]
        text = report(outcomes, advice=not args.no_advice)
        print(f"\n{half}\n\n{text}")
        if not args.names:
            DOCS.write_text(marked(DOCS.read_text(encoding="utf8"), f"faults:{half}", text), encoding="utf8")
    return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measures the diagnosis on planted faults and on healthy runs.")
    parser.add_argument("names", nargs="*", metavar="run", help="of lab/faults.yaml; none: all")
    parser.add_argument("--half", choices=HALVES, help="one part of the list")
    parser.add_argument("--list", action="store_true", help="names the runs")
    parser.add_argument("--no-training", action="store_true", help="judges what was trained before")
    parser.add_argument("--no-advice", action="store_true", help="does not try the advice")
    return parser


if __name__ == "__main__":
    sys.exit(main())
