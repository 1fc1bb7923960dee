"""Optuna's samplers: one per trial, and the points of a grid."""

from __future__ import annotations

import warnings
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any

from hydra.utils import execution_whitelist, instantiate
from omegaconf import DictConfig

from train_smarter.errors import UserError
from train_smarter.search.space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

ALLOWED_TARGETS = ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*", "optuna.pruners.*")


def is_grid(sampler: DictConfig) -> bool:
    return str(sampler.get("_target_")).endswith(".GridSampler")


def grid_points(space: SearchSpace, *, seed: int) -> list[dict[str, Any]]:
    """Return all points of a grid in a random order.

    Raises:
        UserError: an interval is searched, which has no points.
    """
    from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl

    try:
        axes = {key: OptunaSweeperImpl._to_grid_sampler_choices(values) for key, values in space.distributions.items()}
    except ValueError as error:
        raise UserError("a grid has no intervals: type choice(...) or range(low,high,step)") from error
    points = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    Random(seed).shuffle(points)
    return points


def make_sampler(config: DictConfig, number: int) -> BaseSampler:
    """Return the sampler of one trial, seeded by its number: a resumed or shared search never repeats a draw."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import RandomSampler

    seed = config.get("seed")
    if is_grid(config):
        return RandomSampler(seed)
    own: dict[str, Any] = {"_execution_whitelist_": execution_whitelist(ALLOWED_TARGETS, reset=True)}
    if seed is not None and "QMC" not in str(config._target_):  # whose sequence is one, of one seed
        own["seed"] = (int(seed) + 7919 * number) % 2**32
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # half of Optuna's samplers are called so
            sampler: BaseSampler = instantiate(config, **own)
    except Exception as error:
        cause = error.__cause__ or error
        raise UserError(f"hydra.sweeper.sampler: {str(cause).splitlines()[0]}") from error
    return sampler
