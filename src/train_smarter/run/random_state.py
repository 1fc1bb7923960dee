"""The state of every random number generator, for a checkpoint."""

import random
from typing import Any

import numpy as np
import torch


def random_state(device: torch.device) -> dict[str, Any]:
    """Of all generators that a step may draw from, as numbers and tensors."""
    name, keys, *rest = np.random.get_state(legacy=True)
    numpy = (name, np.asarray(keys).tolist(), *rest)
    state = {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": numpy}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
