"""What a process is set to before it trains, so that a step costs what its network costs."""

import ctypes
import gc
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

# glibc's numbers for mallopt (malloc.h), and bytes.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT, LARGE = 2**30, 2**26


@contextmanager
def importing() -> Iterator[None]:
    """To be put around a process's first import of torch and Lightning: Python collects no garbage meanwhile.

    It would search half a million new objects that all stay, again and again: a tenth of a run's time until its
    first step. Once they are there, they are left out of later searches.
    """
    if not gc.isenabled() or "torch" in sys.modules:  # a later run in this process would freeze what is garbage by now
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def prepare(threads: int | None = None) -> None:
    """To be called once, before the trainer is made.

    Args:
        threads: of the CPU, for each operation; None: as many as there are cores. A small network's operations are
            over before a second thread has woken up.
    """
    import torch

    keep_freed_memory()
    hide_missing_gpu()
    spare_tensorflow()
    if threads is not None:
        torch.set_num_threads(threads)


def keep_freed_memory() -> bool:
    """Lets glibc keep what large tensors leave behind, instead of giving it back to the system with each of them.

    Else every step on a CPU gets its activations as new pages, which the system first fills with zeros: a quarter of
    the time of `experiment=cifar10_cnn`. Only what is larger than 64 MB (a data set) still comes and goes as a whole.
    Settings of your own, in MALLOC_* or GLIBC_TUNABLES, win.

    Returns:
        Whether there is a glibc that took it.
    """
    own = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if own or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(TRIM_THRESHOLD, KEPT) and mallopt(MMAP_THRESHOLD, LARGE))


def hide_missing_gpu() -> None:
    """Says that there is no GPU, where there is none.

    Torch's optimizers ask at every step, and its CUDA build then loads the driver's library anew, which takes as long
    as the forward pass of a small network.
    """
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def spare_tensorflow() -> None:
    """Has TensorBoard write files by itself where TensorFlow is installed, too.

    Else it loads all of TensorFlow for that, which takes as long as the rest of a run's start, and slows its steps.
    TensorBoard looks for a module of this name first.
    """
    name = "tensorboard.compat.notf"
    sys.modules.setdefault(name, ModuleType(name))
