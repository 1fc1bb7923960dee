"""How are bad command lines answered? Runs each line of lab/bad_commands.txt as a process, and checks valid ones.

    python lab/bad_commands.py                 # every bad line, then 200 random valid ones
    python lab/bad_commands.py limits syntax   # sections of the list, by the beginning of their names
    python lab/bad_commands.py --valid 200     # the valid ones alone

A bad line has to end with exit code 2, without a traceback, and with the hint that its regular expression describes.
A valid line is composed and checked, in this process, without training; each refusal is a false alarm.
"""

import argparse
import os
import random
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

import train_smarter.config.resolvers  # noqa: F401 (conf/ uses them)
from measure.table import table
from train_smarter import paths
from train_smarter.config.check import check

LIST = Path(__file__).with_suffix(".txt")
# A small, short run, for what a line leaves open.
SMALL = ["model=mlp", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_test_batches=1", "logger=none"]
SMALL += [
    "report=false",
    *(f"callbacks.{name}=null" for name in ("progress", "diagnosis", "histograms", "learning_rate")),
]
PATIENCE = 120  # seconds
PARTNERS = {  # words of data and model that fit each other
    "digits": (["model=mlp", "model=cnn", "model=resnet model.width=8"]),
    "phrases": (["model=lstm", "model=bag_lstm"]),
    "diabetes": (["model=mlp"]),
    "made_regression": (["model=mlp", "model=mlp model.batch_norm=true"]),
    "multilabel": (["model=mlp", "model=mlp model.widths=[64,64]"]),
    "shapes": (["model=unet", "model=autoencoder task=reconstruction"]),
    "chars": (["model=char_lstm", "model=char_lstm model.num_layers=2"]),
}
CHOICES = (  # of each, one is drawn; "" is none
    ("", "optimizer=adam", "optimizer=adamw", "optimizer=sgd optimizer.momentum=0 optimizer.nesterov=false"),
    ("", "scheduler=cosine scheduler.warmup=3", "scheduler=onecycle", "scheduler=step", "scheduler=plateau"),
    ("", "trainer=cpu", "trainer=cpu trainer.precision=bf16-mixed", "trainer=cpu trainer.precision=64-true"),
    ("", "callbacks=none", "callbacks.early_stopping=null", "callbacks.early_stopping.min_delta=-0.001"),
    ("", "logger=none", "logger=csv"),
    (
        "",
        "trainer.max_time=00:02:00:00",
        "+trainer.max_time.hours=3",
        "trainer.max_steps=1000",
        "trainer.max_epochs=-1",
    ),
    ("", "trainer.limit_val_batches=0.5", "trainer.limit_val_batches=3", "+trainer.limit_predict_batches=0"),
    ("", "trainer.limit_train_batches=1", "trainer.limit_train_batches=0.25", "trainer.limit_test_batches=7"),
    ("", "trainer.gradient_clip_val=null", "trainer.gradient_clip_val=0.5 +trainer.gradient_clip_algorithm=value"),
    ("", "callbacks.resume_checkpoint.every_minutes=null", "callbacks.resume_checkpoint.every_n_steps=100"),
    ("", "tags=[a,b]", "tags=[2026,x]", "tags=[]"),
    ("", "seed=null", "seed=0", "num_threads=2", "speed=false", "test=false", "report=false"),
    ("", "data.fold=4", "data.folds=10 data.fold=9", "data.val_fraction=0.5", "data.split_seed=7"),
    ("", "trainer.accumulate_grad_batches=4", "trainer.log_every_n_steps=1", "+trainer.num_sanity_val_steps=-1"),
    ("", "monitor=val/loss", "monitor=train/loss"),
)
VALIDATION = (  # not with every schedule
    "trainer.val_check_interval=0.5",
    "trainer.val_check_interval=1",
    "trainer.val_check_interval=20",
    "trainer.check_val_every_n_epoch=2",
    "trainer.val_check_interval=50 trainer.check_val_every_n_epoch=null",
)


@dataclass(frozen=True)
class Line:
    """A bad command line. new: no earlier list of faults and no test had it."""

    section: str
    new: bool
    command: str
    hint: str


@dataclass(frozen=True)
class Answer:
    code: int
    stderr: str
    seconds: float
    cpu: float  # seconds, which other programs of the machine change less

    def faults(self, hint: str) -> list[str]:
        wrong = [] if self.code == 2 else [f"exit {self.code}"]
        wrong += ["traceback"] if "Traceback" in self.stderr else []
        return wrong if re.search(hint, self.stderr, re.DOTALL) else [*wrong, "no hint"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help="of the list; all of them")
    parser.add_argument("--valid", type=int, help="how many valid lines, without the bad ones")
    args = parser.parse_args()
    wrong, count = 0 if args.valid else run_bad(args.sections), args.valid or 200
    alarms = [] if args.sections else list(false_alarms(count))
    if not args.sections:
        print(*alarms, f"{len(alarms)} false alarms over {count} valid lines", sep="\n")
    return 1 if wrong or alarms else 0


# ---- bad lines


def lines(sections: Sequence[str] = ()) -> Iterator[Line]:
    section = ""
    for text in LIST.read_text(encoding="utf8").splitlines():
        if text.startswith("# ---- "):
            section = text.removeprefix("# ---- ")
        elif text and text[0] != "#" and (not sections or section.startswith(tuple(sections))):
            command, _, hint = text.partition("  ~ ")
            yield Line(section, command.startswith("+ "), command.removeprefix("+ "), hint)


def run_bad(sections: Sequence[str]) -> int:
    """Print a line for each that is badly answered, and a table of the sections; return how many there were."""
    done: list[tuple[Line, Answer, list[str]]] = []
    with tempfile.TemporaryDirectory() as work:
        places = {"run": Path(work) / "past" / "run", "tmp": Path(work) / "empty", "logs": Path(work) / "logs"}
        places["tmp"].mkdir()
        answer(f"train hydra.run.dir={places['run']}", places)
        for line in lines(sections):
            hint = line.hint.replace("{tmp}", re.escape(str(places["tmp"])))
            given = answer(line.command, places)
            done.append((line, given, given.faults(hint)))
            if faults := done[-1][2]:
                cost = f"{given.seconds:.1f} s, CPU {given.cpu:.1f} s"
                print(f"{', '.join(faults)} ({cost}): {line.command}\n{shorten(given.stderr)}", flush=True)
    print(summary(done))
    return sum(bool(faults) for _, _, faults in done)


def answer(command: str, places: dict[str, Path]) -> Answer:
    """What a command line answers, with the small run's settings for what it leaves open."""
    for name, place in places.items():
        command = command.replace(f"{{{name}}}", str(place))
    *settings, verb = re.findall(r"^((?:[A-Z_]+=\S+ )*)(\w+)", command)[0]
    words = shlex.split(command[len("".join(settings)) + len(verb) :])
    typed = [word.lstrip("+").partition("=")[0] for word in words]
    keys = {*typed, *(".".join(key.split(".")[:2]) for key in typed)}
    small = [word for word in SMALL if verb == "train" and word.partition("=")[0] not in keys]
    logs = [] if "paths.logs" in keys or (verb == "report" and "-m" in words) else [f"paths.logs={places['logs']}"]
    began, before = time.perf_counter(), _cpu()
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", f"train_smarter.commands.{verb}", *small, *logs, *words],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | dict(one.split("=", 1) for one in settings[0].split()),
            cwd=places["tmp"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False,
        )  # fmt: skip
        code, text = done.returncode, done.stderr
    except subprocess.TimeoutExpired as error:
        code, text = 124, (error.stderr or b"").decode()
    return Answer(code, text, time.perf_counter() - began, _cpu() - before)


def _cpu() -> float:
    """Processor seconds of the commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def shorten(text: str) -> str:
    rows = text.splitlines()
    return "".join(f"    {row[:200]}\n" for row in (rows if len(rows) < 7 else [*rows[:2], "...", *rows[-3:]]))


def summary(done: Sequence[tuple[Line, Answer, list[str]]]) -> str:
    rows = []
    for section in [*dict.fromkeys(line.section for line, _, _ in done), ""]:
        of = [(line, given, faults) for line, given, faults in done if section in ("", line.section)]
        count = len(of)
        rows.append(
            [
                section or "all",
                f"{count}",
                f"{sum(line.new for line, _, _ in of)}",
                f"{sum(given.code == 2 for _, given, _ in of)}",
                f"{sum('traceback' not in faults for _, _, faults in of)}",
                f"{sum('no hint' not in faults for _, _, faults in of)}",
                f"{median(given.seconds for _, given, _ in of):.1f}",
                f"{median(given.cpu for _, given, _ in of):.1f}",
            ]
        )
    return table(
        ["section", "lines", "new", "exit 2", "no traceback", "hint", "seconds, median", "CPU seconds, median"], rows
    )


# ---- valid lines


def false_alarms(count: int) -> Iterator[str]:
    noise = random.Random(23)
    for _ in range(count):
        words = " ".join(valid_words(noise)).split()
        try:
            check_words(words)
        except Exception as error:  # whatever it is, the line is valid
            yield f"{shlex.join(words)}\n    {type(error).__name__}: {error}"


def valid_words(noise: random.Random) -> Iterator[str]:
    data = noise.choice([*PARTNERS])
    model = noise.choice(PARTNERS[data])
    yield f"data={data} {model}"
    drawn = [noise.choice(choices) for choices in CHOICES if noise.random() < 0.5]
    text = " ".join(drawn)
    clash = ["trainer.max_epochs=-1"] if "cosine" in text or "onecycle" in text else []  # they need an end
    clash += ["data.fold"] if "data.val_fraction" in text else []
    clash += ["callbacks."] if "callbacks=none" in text else []
    yield from (word for word in drawn if not word.startswith(tuple(clash)))
    yield f"optimizer.lr={10 ** noise.uniform(-5, 0):.2g} data.batch_size={noise.randint(2, 500)}"
    if "plateau" not in text and "limit_" not in text:
        yield noise.choice(VALIDATION)


def check_words(words: Sequence[str]) -> None:
    GlobalHydra.instance().clear()
    hydra.initialize_config_dir(str(paths.CONF))
    cfg = hydra.compose("train", ["paths.run=/nowhere/run", *words], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    check(cfg)


if __name__ == "__main__":
    sys.exit(main())
