"""What stands before the first step: composing a config, reading cached tokens; and the memory of a whole run."""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure.process import ROOT, call, run
from measure.section import Options, Section
from measure.table import Goal, ratios, spread, table

LEAST = 9  # rounds of what is over in a second, or in some
ONE_STEP = ("experiment=mnist_mlp", "trainer=cpu", "trainer.max_steps=1", "test=false")
RAW = 60_000 * 3_072  # bytes of CIFAR-10's images
BARE = """import hydra

@hydra.main(config_path={conf!r}, config_name="train", execution_whitelist=("train_smarter.run.run_dir.CreateRunDir",))
def main(cfg):
    pass

main()
"""
IMPORTS = (
    "from train_smarter.speed.startup import import_quickly, block_tensorflow; block_tensorflow(); import_quickly(); "
    "import torch, torchvision, lightning, tensorboard, torch.utils.tensorboard, matplotlib.pyplot, "
    "train_smarter.commands.train, train_smarter.config.build, train_smarter.commands.evaluate, "
    "my_project.data.cifar10, my_project.model.cnn, train_smarter.callbacks.prediction_samples"
)


def start(options: Options) -> Section:
    """`train --cfg job` against a bare Hydra program over the same conf/; a run of one step against bare imports."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        program = Path(folder) / "bare.py"
        program.write_text(BARE.format(conf=str(ROOT / "conf")))
        train = ["-m", "train_smarter.commands.train"]
        commands = {
            "`train --cfg job`": [*train, "--cfg", "job"],
            "bare program": [str(program), "--cfg", "job"],
            "run of one step": [*train, *ONE_STEP, f"paths.logs={folder}"],
            "`import torch, lightning`": ["-c", "import torch, lightning"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(max(options.rounds, LEAST) + 1):
            for name in reversed(commands) if number % 2 else commands:
                took = run([sys.executable, *commands[name]]).seconds
                if number:  # the first round fills the disk's cache
                    seconds[name].append(took)
    ours, bare, step, imports = seconds.values()
    goals = [
        Goal("`train --cfg job` against a bare `@hydra.main` program", 1.2, ratios(ours, bare)),
        Goal("a run of one step against `import torch, lightning` alone", 1.2, ratios(step, imports)),
    ]
    rows = [[name, str(spread(values))] for name, values in seconds.items()]
    text = (
        f"Whole processes, in {len(ours)} rounds of alternating order; the first two over the same `conf/`. The run "
        f"of one step is `train {' '.join(ONE_STEP)}`: it imports both, too, but leaves out what it does not need "
        "of what they import."
    )
    return Section("Start", text, goals, [table(("process", "seconds"), rows)])


def memory(options: Options) -> Section:
    """Peak memory of a run above that of its imports, in sizes of the raw data set."""
    over, rows = [], []
    for _ in range(min(options.rounds, 3)):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            words = ["experiment=cifar10_cnn", "trainer=cpu", "trainer.max_epochs=1", f"paths.logs={folder}"]
            whole = run([sys.executable, "-m", "train_smarter.commands.train", *words]).peak
        imports = run([sys.executable, "-c", IMPORTS]).peak
        over.append((whole - imports) / RAW)
        rows.append([f"{whole / 2**20:.0f}", f"{imports / 2**20:.0f}", f"{over[-1]:.2f}"])
    goals = [Goal("peak memory of `cifar10_cnn` above the imports, in sizes of the raw data set", 2.5, spread(over))]
    text = (
        f"`train experiment=cifar10_cnn trainer.max_epochs=1`, training and evaluation, against a process that imports "
        f"the same modules; peak resident memory. The raw images are {RAW / 2**20:.0f} MiB."
    )
    head = ("run, MiB", "imports alone, MiB", "difference / raw data")
    return Section("Memory", text, goals, [table(head, rows)])


def tokens(options: Options) -> Section:
    """A second start of imdb_lstm up to its first batch, against reading the same tokens from disk."""
    times, _ = call("measure.start:second_starts", repeats=max(options.rounds, LEAST))
    what = "a second start of `imdb_lstm` up to the first step, against reading the tokens from disk"
    goals = [Goal(what, 2, ratios(times["ours"], times["disk"]))]
    rows = [[name, str(spread([1000 * s for s in times[key]]))] for key, name in (("ours", "start"), ("disk", "read"))]
    text = (
        "In one process, imports left out, the cache warm: `prepare_data`, `setup` and the first batch of our data, "
        "against `torch.load` of the same tensors saved plainly, in turns."
    )
    return Section("Second start on texts", text, goals, [table(("what", "milliseconds"), rows)])


def second_starts(*, repeats: int) -> dict[str, list[float]]:
    """Seconds of each start and each plain reading, in a process of its own."""
    import torch

    from peers.task import NOTHING, Task
    from train_smarter.config.build import build

    times: dict[str, list[float]] = {"ours": [], "disk": []}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        cfg, file = Task("imdb_lstm", 1, folder).compose(*NOTHING), Path(folder) / "tokens.pt"
        for number in range(repeats + 1):
            data: Any = build(cfg).data
            began = time.perf_counter()
            data.prepare_data()
            data.setup("fit")
            next(iter(data.train_dataloader()))
            ours = time.perf_counter() - began
            if not number:
                torch.save({name: (e.inputs, e.targets) for name, e in data.examples.items()}, file)
            began = time.perf_counter()
            torch.load(file, weights_only=True)
            disk = time.perf_counter() - began
            if number:  # the first may have made the cache
                times["ours"].append(ours)
                times["disk"].append(disk)
    return times


SECTIONS = {"start": start, "memory": memory, "tokens": tokens}
