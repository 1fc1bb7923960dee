"""Measures where images are held: memory, CPU time and images a CPU second of each data.cache, and of torchvision.

    python lab/caches.py 2000 --folder /data/made          # writes 2,000 JPEG images of about 400x300 pixels, once
    python lab/caches.py 2000 --folder /data/made --only disk pil

Each way starts twice, each time in a new process: first without, then with what the first start has left. A
start reads one epoch of raw uint8 batches in random order. The peak is the memory of the process and its workers that
no file backs (RssAnon; of pages that processes share, Pss_Anon counts each once), less what it was before.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

CLASSES, SIZE, BATCH = 10, 224, 64
WAYS = ("memory", "disk", "none", "pil", "torchvision_io")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="images")
    parser.add_argument("--folder", type=Path, required=True, help="of the images and the cache file")
    parser.add_argument("--only", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--workers", type=int, default=2, help="processes of `none` and of torchvision")
    parser.add_argument("--start", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    images = args.folder / f"images_{args.count}"
    if args.start:
        print(json.dumps(measure(args.start, images, args.folder / "cache", args.workers)))
        return
    write_images(images, args.count)
    shutil.rmtree(args.folder / "cache", ignore_errors=True)
    print("| way | start | peak MB | until the first batch: wall s, CPU s | an epoch: wall s, CPU s | images/CPU s |")
    print("|---|---|---|---|---|---|")
    for way in args.only:
        for start in ("first", "second"):
            command = [sys.executable, __file__, str(args.count), "--folder", str(args.folder), "--start", way]
            done = subprocess.run(
                [*command, "--workers", str(args.workers)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                print(f"| {way} | {start} | {(done.stderr.strip().splitlines() or ['no message'])[-1]} | | | |")
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            ready, epoch = (f"{found[part][0]:.1f}, {found[part][1]:.1f}" for part in ("ready", "epoch"))
            print(
                f"| {way} | {start} | {found['anonymous']:.0f} | {ready} | {epoch} | {found['rate']:.0f} |", flush=True
            )


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


def measure(way: str, images: Path, cache: Path, workers: int) -> dict[str, Any]:
    """One start of one way, in this process."""
    import torch

    from train_smarter.speed.startup import tune_malloc

    torch.set_num_threads(1)
    tune_malloc()
    batches = BUILDERS[way](images, cache, workers)
    with Peak() as peak:
        began = peak.clocks()
        epoch = batches()
        first = next(epoch)
        ready, count = peak.clocks(), len(first)
        for batch in epoch:
            count += len(batch)
        del batch, epoch, batches  # ends the workers, whose CPU time counts from then on
        gc.collect()
        ended = peak.clocks()
    cpu = ended[1] - ready[1]
    return {
        "anonymous": peak.megabytes,
        "ready": [after - before for after, before in zip(ready, began, strict=True)],
        "epoch": [after - before for after, before in zip(ended, ready, strict=True)],
        "rate": (count - len(first)) / cpu,
    }


# ---- ways: a function that makes an epoch's batches


def own(cache_name: str) -> Callable[[Path, Path, int], Callable[[], Iterator[Any]]]:
    def build(images: Path, cache: Path, workers: int) -> Callable[[], Iterator[Any]]:
        from train_smarter.data.images import ImageFolder

        def epoch() -> Iterator[Any]:
            data = ImageFolder(
                dir=str(images),
                size=SIZE,
                shape=[3, SIZE, SIZE],
                batch_size=BATCH,
                cache=cache_name,
                cache_dir=str(cache),
                num_workers=workers,
            )
            data.prepare_data()
            data.setup()
            loader = data.train_dataloader()
            yield from (batch for batch, _ in loader)

        return epoch

    return build


def torchvision(load: str) -> Callable[[Path, Path, int], Callable[[], Iterator[Any]]]:
    def build(images: Path, cache: Path, workers: int) -> Callable[[], Iterator[Any]]:  # noqa: ARG001
        from torch.utils.data import DataLoader
        from torchvision.datasets import ImageFolder
        from torchvision.io import ImageReadMode, decode_image
        from torchvision.transforms import v2

        def epoch() -> Iterator[Any]:
            resize: list[Any] = [v2.Resize((SIZE, SIZE), antialias=True)]
            if load == "pil":
                data = ImageFolder(str(images), v2.Compose([*resize, v2.PILToTensor()]))
            else:
                data = ImageFolder(
                    str(images), resize[0], loader=lambda file: decode_image(file, mode=ImageReadMode.RGB)
                )
            loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=workers)
            yield from (batch for batch, _ in loader)

        return epoch

    return build


BUILDERS = {
    "memory": own("memory"),
    "disk": own("disk"),
    "none": own("none"),
    "pil": torchvision("pil"),
    "torchvision_io": torchvision("io"),
}


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
