"""Shortcuts of a process: imports, memory, TensorBoard. `speed=false` leaves all of them out."""

import atexit
import ctypes
import gc
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

# glibc's numbers for mallopt (malloc.h), and bytes.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
TRIM_BYTES, MMAP_BYTES = 2**30, 2**28


def import_quickly(*, speed: bool = True) -> None:
    """Import torch, Lightning and what builds a run; call it before anything else imports them.

    `speed` disables the garbage collector, which would search half a million new objects that all stay, and skips
    scipy.signal, which nothing here uses: together 1/3 of the time from a command to its first step.
    """
    if "train_smarter.config.build" in sys.modules:  # an earlier run in this process: its garbage must not be frozen
        return
    if not speed:
        import_module("train_smarter.config.build")
        return
    gc.disable()
    try:
        with stub_scipy_signal():
            import_module("train_smarter.config.build")
    finally:
        gc.freeze()  # later collections skip these objects, too
        gc.enable()
        atexit.register(gc.unfreeze)  # otherwise libraries bound by nanobind report leaks at exit


@contextmanager
def stub_scipy_signal() -> Iterator[None]:
    """Has torchmetrics, imported within, leave scipy.signal unloaded, of which it asks whether there is a `hamming`.

    To load it takes half as long as torch.
    """
    name = "scipy.signal"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = stand_in = ModuleStub(name)
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


class ModuleStub(ModuleType):
    """Is imported in place of the module of its name, which it loads when anything but `hamming` is asked for."""

    hamming = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # torch looks through all modules for their files
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def configure_process(num_threads: int | None = None, *, speed: bool = True) -> None:
    """Set what a process can set only once, before the trainer is made.

    Args:
        num_threads: CPU threads per operation; None: one per core. The operations of a small network end before a
            second thread wakes up.
        speed: use the shortcuts of this module. A later run in the same process cannot undo them.
    """
    import torch

    if speed:
        tune_malloc()
        hide_missing_gpu()
        block_tensorflow()
    if num_threads is not None:
        torch.set_num_threads(num_threads)


def tune_malloc() -> bool:
    """Lets glibc keep what large tensors leave behind, instead of giving it back to the system with each of them.

    Else every step on a CPU gets its activations as new pages, which the system first fills with zeros: a quarter of
    the time of `experiment=cifar10_cnn`. Only what is larger than 256 MB (a data set; a batch of 446 images of 224x224
    floats) still comes and goes as a whole.
    Settings of your own, in MALLOC_* or GLIBC_TUNABLES, win.

    Returns:
        Whether there is a glibc that took it.
    """
    own = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if own or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(TRIM_THRESHOLD, TRIM_BYTES) and mallopt(MMAP_THRESHOLD, MMAP_BYTES))


def hide_missing_gpu() -> None:
    """Says that there is no GPU, where there is none.

    Torch's optimizers ask at every step, and its CUDA build then loads the driver's library anew, which takes as long
    as the forward pass of a small network.
    """
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def block_tensorflow() -> None:
    """Has TensorBoard write files by itself where TensorFlow is installed, too.

    Else it loads all of TensorFlow for that, which takes as long as the rest of a run's start, and slows its steps.
    TensorBoard looks for a module of this name first.
    """
    name = "tensorboard.compat.notf"
    sys.modules.setdefault(name, ModuleType(name))
