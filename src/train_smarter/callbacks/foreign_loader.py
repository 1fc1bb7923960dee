"""The order of a data loader that is not this template's, where a run resumes at the beginning of an epoch."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from train_smarter.data.loader import Loader
from train_smarter.run.random_state import random_state, restore_random_state


def is_foreign(trainer: Trainer) -> bool:
    """Whether training batches come from another loader than `Loader`, which alone can resume within an epoch."""
    return not isinstance(trainer.train_dataloader, Loader)


def loader_state(trainer: Trainer) -> dict[str, Any]:
    """What decides the order of an epoch whose batches are not requested yet."""
    generators = [generator.get_state() for generator in _generators(trainer)]
    return {"random": random_state(trainer.strategy.root_device), "generators": generators}


def restart_loader(trainer: Trainer, state: dict[str, Any]) -> None:
    """Begin the epoch again in the order that it had when `loader_state` was read.

    Lightning makes the first iterator before it has read a checkpoint, so its order is another one.
    """
    restore_random_state(state["random"], trainer.strategy.root_device)
    for generator, saved in zip(_generators(trainer), state["generators"], strict=False):
        generator.set_state(saved)
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None  # training has started
    iter(fetcher)
    # Before the first batch is requested, Lightning makes an iterator over the validation batches, which draws, too.
    validation = trainer.fit_loop.epoch_loop.val_loop
    skip_validation = validation.increment_progress_to_evaluation_end

    def skip_without_drawing() -> None:
        with isolate_rng():
            skip_validation()

    validation.increment_progress_to_evaluation_end = skip_without_drawing  # type: ignore[method-assign]


def _generators(trainer: Trainer) -> Iterator[torch.Generator]:
    """The generators of the loaders and their samplers; most have none, and draw from torch's global one."""
    combined, seen = trainer.fit_loop._combined_loader, set[int]()
    for loader in combined.flattened if combined is not None else []:
        for part in (loader, getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)):
            generator = getattr(part, "generator", None)
            if isinstance(generator, torch.Generator) and id(generator) not in seen:
                seen.add(id(generator))
                yield generator
