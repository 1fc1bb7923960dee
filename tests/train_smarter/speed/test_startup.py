"""What a process is set to before it trains; tried in processes of their own, since it cannot be taken back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from train_smarter.paths import ENGINE

# Takes 140 MB in pieces and frees them, as a step does, ten times, and prints how many new pages that took.
STEPS = """
import resource, torch
from train_smarter.speed.startup import tune_malloc
if {prepared}:
    print(tune_malloc(), end=" ")
def steps():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        [torch.empty(size << 18).fill_(1) for size in (5, 40, 10, 40, 40, 5)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
steps()
print(steps())
"""


def printed(program: str, **environment: str) -> list[str]:
    given = {**os.environ, "PYTHONPATH": str(ENGINE.parent), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    (returned,) = printed(STEPS.format(prepared=False))
    taken, kept = printed(STEPS.format(prepared=True))
    assert taken == "True"
    assert int(kept) < int(returned) / 5


def test_settings_of_the_users_own_win() -> None:
    program = "from train_smarter.speed.startup import tune_malloc; print(tune_malloc())"
    assert printed(program, MALLOC_TRIM_THRESHOLD_="100000") == ["False"]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "frozen"), [("sys", True), ("train_smarter.config.build", False)])
def test_what_a_run_is_built_of_is_loaded_without_a_search_for_garbage(before: str, frozen: bool) -> None:
    program = (
        f"import gc, {before}; from train_smarter.speed.startup import import_quickly; begun = []\n"
        "gc.callbacks.append(lambda phase, info: begun.append(phase)); import_quickly(); searched = len(begun)\n"
        "it = [[] for _ in range(10**5)]\n"
        "print(searched, gc.get_freeze_count() > 10**5, len(begun) > searched)"
    )
    assert printed(program) == ["0", str(frozen), "True"]


@pytest.mark.slow
def test_scipy_is_spared_but_for_those_who_use_it() -> None:
    program = (
        "import sys; from train_smarter.speed.startup import import_quickly, stub_scipy_signal; import_quickly()\n"
        "print('torchmetrics' in sys.modules, 'scipy.signal' in sys.modules, 'scipy.stats' in sys.modules)\n"
        "with stub_scipy_signal(): from scipy.signal import hamming, square; print(hamming, square(1))\n"
        "import scipy.signal; print(scipy.signal.windows.hamming(1))"
    )
    assert printed(program) == ["True", "False", "False", "None", "1.0", "[1.]"]


def test_threads_are_set_if_they_are_given_and_a_missing_gpu_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = (
        "import os, torch; from train_smarter.speed.startup import configure_process\n"
        "there = torch.cuda.is_available(); configure_process(); print(torch.get_num_threads())\n"
        "configure_process(3); print(torch.get_num_threads())\n"
        "print(there, repr(os.environ.get('CUDA_VISIBLE_DEVICES')))"
    )
    before, after, *gpu = printed(program, OMP_NUM_THREADS="2")
    assert (before, after) == ("2", "3")
    assert gpu in (["False", "''"], ["True", "None"])


@pytest.mark.parametrize(("spared", "loaded"), [(False, "tensorflow"), (True, "tensorboard.compat.tensorflow_stub")])
def test_tensorboard_does_without_tensorflow(spared: bool, loaded: str, tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("io = None")
    program = (
        "from train_smarter.speed.startup import configure_process\n"
        f"if {spared}: configure_process()\n"
        "from tensorboard.compat import tf; tf.io; print(tf.__name__)"
    )
    assert printed(program, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ENGINE.parent)])) == [loaded]
