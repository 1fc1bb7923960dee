"""Runs where the group `benchmark` is installed, in a process of its own: Keras chooses its backend at the import.

The task comes first, as in a contestant's process: Triton and TensorFlow each bring an LLVM, and the process dies if
TensorFlow's is the first one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
AGREE = """
import json, sys
import numpy as np, torch
from peers.task import Task, prepare
from peers import keras_fit
experiment, folder, *overrides = sys.argv[1:]
parts = prepare(Task(experiment, 1, folder, overrides=overrides))
model = keras_fit.compiled(parts)
inputs, labels = keras_fit.arrays(parts, "test")
theirs = model.predict(inputs[:8], verbose=0)
parts.model.eval()
ours = parts.model(parts.inputs(parts.data.examples["test"].inputs[:8])).detach().numpy()
print(json.dumps([float(np.abs(ours - theirs).max()), model.count_params(), parts.parameters]))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("keras") is None, reason="needs: uv pip install -e '.[benchmark]'")
@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
@pytest.mark.parametrize(
    ("data", "experiment"), [("mnist", "mnist_mlp"), ("cifar10", "cifar10_cnn"), ("phrases", "phrases_lstm")]
)
def test_the_same_weights_give_the_same_logits(
    backend: str, data: str, experiment: str, facts: Callable[[str], list[str]], tmp_path: Path
) -> None:
    if backend == "tensorflow" and find_spec("tensorflow") is None:
        pytest.skip("needs: uv pip install -e '.[benchmark]'")
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "scripts")])
    env = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", AGREE, experiment, str(tmp_path), *facts(data)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    difference, theirs, ours = json.loads(done.stdout.splitlines()[-1])
    assert difference < 1e-4
    # Of an LSTM's two biases Keras has the sum: 4 gates of 128 less.
    assert ours - theirs == (512 if experiment == "phrases_lstm" else 0)
