"""Measures where images are held: memory, CPU time and images a CPU second of each data.cache, and of torchvision.

    python lab/caches.py 2000 --folder /data/made          # writes 2,000 JPEG images of about 400x300 pixels, once
    python lab/caches.py 2000 --folder /data/made --only disk pil
    python lab/caches.py 2000 --folder /data/made --rounds 11             # alternating; --augment, --cold
    python lab/caches.py 2000 --folder /data/made --rounds 11 --network cnn --size 64

Each way starts twice, each time in a new process: first without, then with what the first start has left. A
start reads one epoch of raw uint8 batches in random order. The peak is the memory of the process and its workers that
no file backs (RssAnon; of pages that processes share, Pss_Anon counts each once), less what it was before.

With --rounds, all ways start once in each round, with what earlier starts have left: median and range of the rounds.
"""

import argparse
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

CLASSES, BATCH, PADDING = 10, 64, 8
WAYS = ("memory", "disk", "none", "pil", "torchvision_io")
Batches = Callable[[], Iterator[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="images")
    parser.add_argument("--folder", type=Path, required=True, help="of the images and the cache file")
    parser.add_argument("--only", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--workers", type=int, default=2, help="processes of `none` and of torchvision")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--augment", action="store_true", help="random crop and flip, then normalized floats")
    parser.add_argument("--network", choices=("cnn", "resnet18"), help="train it for an epoch; implies --augment")
    parser.add_argument("--cold", action="store_true", help="no file is in the page cache when a way starts")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--start", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.images, args.cache = args.folder / f"images_{args.count}", args.folder / "cache"
    args.augment |= args.network is not None
    if args.start:
        print(json.dumps(measure(args)))
        return
    write_images(args.images, args.count)
    if args.rounds:
        compare(args)
        return
    shutil.rmtree(args.cache, ignore_errors=True)
    print("| way | start | peak MB | until the first batch: wall s, CPU s | an epoch: wall s, CPU s | images/CPU s |")
    print("|---|---|---|---|---|---|")
    for way in args.only:
        for start in ("first", "second"):
            found = start_process(way, args)
            ready, epoch = (f"{found[part][0]:.1f}, {found[part][1]:.1f}" for part in ("ready", "epoch"))
            print(
                f"| {way} | {start} | {found['anonymous']:.0f} | {ready} | {epoch} | {found['rate']:.0f} |", flush=True
            )


def compare(args: Namespace) -> None:
    """Median and range over alternating rounds, and the ratio to PIL of the same round."""
    rounds = []
    for number in range(args.rounds):
        ways = args.only[number % len(args.only) :] + args.only[: number % len(args.only)]
        rounds.append({way: start_process(way, args) for way in ways})
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
    print("| way | images/CPU s | images/s | ratio to pil: CPU | wall |\n|---|---|---|---|---|")
    for way in args.only:
        cells = [[one[way][kind] for one in rounds] for kind in ("rate", "wall_rate")]
        if "pil" in args.only:
            cells += [[one[way][kind] / one["pil"][kind] for one in rounds] for kind in ("rate", "wall_rate")]
        shown = (f"{median(cell):.4g} ({min(cell):.4g} to {max(cell):.4g})" for cell in cells)
        print(f"| {way} | {' | '.join(shown)} |", flush=True)


def start_process(way: str, args: Namespace) -> dict[str, Any]:
    if args.cold:
        drop_from_page_cache([*args.images.rglob("*.jpg"), *args.cache.rglob("*.rows")])
    command = [sys.executable, __file__, str(args.count), "--folder", str(args.folder), "--start", way]
    command += ["--workers", str(args.workers), "--size", str(args.size), *["--augment"] * args.augment]
    command += ["--network", args.network] if args.network else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{way}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def drop_from_page_cache(files: list[Path]) -> None:
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write_images(folder: Path, count: int) -> None:
    """Smooth colors with some noise, about 36 KB each."""
    from PIL import Image

    for label in range(CLASSES):
        (folder / f"class_{label}").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        file = folder / f"class_{number % CLASSES}" / f"{number:06}.jpg"
        if file.exists():
            continue
        draw = np.random.default_rng(number)
        width, height = int(draw.integers(360, 440)), int(draw.integers(270, 330))
        smooth = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height))
        noise = draw.integers(-12, 13, (height, width, 1), dtype=np.int16)
        pixels = (np.asarray(smooth).astype(np.int16) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(file, quality=85)


def measure(args: Namespace) -> dict[str, Any]:
    """One start of one way, in this process."""
    import torch

    from train_smarter.speed.startup import tune_malloc

    torch.set_num_threads(1)
    tune_malloc()
    torch.manual_seed(0)
    own = args.start in ("memory", "disk", "none")
    batches = (own_batches if own else torchvision_batches)(args)
    train = training_step(args.network) if args.network else None
    with Peak() as peak:
        began = peak.clocks()
        epoch = batches()
        first = next(epoch)
        ready, count = peak.clocks(), len(first[0])
        for images, targets in epoch:
            count += len(images)
            if train:
                train(images, targets)
        del images, epoch, batches  # ends the workers, whose CPU time counts from then on
        gc.collect()
        ended = peak.clocks()
    count -= len(first[0])
    return {
        "anonymous": peak.megabytes,
        "ready": [after - before for after, before in zip(ready, began, strict=True)],
        "epoch": [after - before for after, before in zip(ended, ready, strict=True)],
        "rate": count / (ended[1] - ready[1]),
        "wall_rate": count / (ended[0] - ready[0]),
    }


def training_step(network: str) -> Callable[[Any, Any], None]:
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torchvision.models import resnet18

    def block(narrow: int, wide: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(narrow, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(2))

    small = nn.Sequential(block(3, 16), block(16, 32), block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = (resnet18(num_classes=CLASSES) if network == "resnet18" else small.append(nn.Linear(64, CLASSES))).to(
        memory_format=torch.channels_last
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def step(images: Any, targets: Any) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), targets).backward()
        optimizer.step()

    return step


# ---- ways: a function that makes an epoch's batches


def own_batches(args: Namespace) -> Batches:
    import torch

    from train_smarter.data.augment import Crop, Flip
    from train_smarter.data.images import ImageFolder

    def epoch() -> Iterator[Any]:
        data = ImageFolder(
            dir=str(args.images),
            size=args.size,
            shape=[3, args.size, args.size],
            batch_size=BATCH,
            cache=args.start,
            cache_dir=str(args.cache),
            num_workers=args.workers,
            augment={"flip": Flip(p=0.5), "crop": Crop(padding=PADDING)} if args.augment else None,
        )
        data.prepare_data()
        data.setup()
        random = torch.Generator().manual_seed(0)
        for images, targets in data.train_dataloader():
            if args.augment:
                images = data.normalize(data._apply_augmentations(images, targets, random)[0])
            yield images, targets

    return epoch


def torchvision_batches(args: Namespace) -> Batches:
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    def epoch() -> Iterator[Any]:
        steps: list[Any] = [v2.Resize((args.size, args.size), antialias=True)]
        steps += [v2.PILToTensor()] if args.start == "pil" else []
        if args.augment:
            steps += [v2.RandomHorizontalFlip(), v2.RandomCrop(args.size, padding=PADDING)]
            steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
        if args.start == "pil":
            data = ImageFolder(str(args.images), v2.Compose(steps))
        else:
            data = ImageFolder(
                str(args.images),
                v2.Compose(steps),
                loader=lambda file: decode_image(file, mode=ImageReadMode.RGB),
            )
        yield from DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=args.workers)

    return epoch


# ---- memory


class Peak:
    """The largest sum over this process and its children, looked at 20 times a second, above that before."""

    def __enter__(self) -> "Peak":
        self.before, self.own = anonymous(), 0.0
        self.most = self.before
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def _look(self) -> None:
        while not self.over.wait(0.05):
            self.most = max(self.most, anonymous())
            self.own = time.thread_time()

    def clocks(self) -> tuple[float, float]:
        """Wall time, and CPU time of this process, without this thread's, and of the workers that have ended."""
        own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime - self.own
        return time.perf_counter(), cpu

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    @property
    def megabytes(self) -> float:
        return (self.most - self.before) / 1e3


def anonymous() -> int:
    """Memory of this process and its children that no file backs, in KB."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf8").split()
    return sum(_anonymous(number) for number in ("self", *children))


def _anonymous(process: str) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf8").splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss_Anon")), 0)


if __name__ == "__main__":
    main()
