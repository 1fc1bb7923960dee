"""Examples whose inputs are the same to the last bit, within a split and between splits."""

from collections.abc import Mapping
from hashlib import blake2b
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train_smarter.inspection.sampling import Sample, name_of
from train_smarter.inspection.values import named_parts

Content = dict[str, Any]
MAX_SHOWN = 5  # pairs of two splits


def find_duplicates(samples: Mapping[str, Sample]) -> Content | None:
    """Compare a hash of each example's inputs.

    Returns:
        None where there are no splits. `pairs`: a dict for each split (how many repeat another one of it) and each two
        (how many of the second are in the first, too), with a few `examples`, the indices of both, and their `names`.
        `conflicts`: how many examples have the inputs of another one and other targets; None where there are none.
    """
    if not samples:
        return None
    hashes, targets = dict[str, Any](), dict[str, Any]()
    for split, sample in samples.items():
        hashes[split], targets[split] = _hash_examples(sample)
    pairs = [_within(split, samples[split], own) for split, own in hashes.items()]
    pairs += [_between((one, other), samples, hashes) for one, other in combinations(hashes, 2)]
    return {"pairs": pairs, "conflicts": _count_conflicts(hashes, targets)}


def _hash_examples(sample: Sample) -> tuple[Any, Any]:
    """A hash of the inputs and of the targets of each example that is read, (n,) uint64 each."""
    hashes: tuple[list[int], list[int]] = ([], [])
    for batch in sample.pieces():
        for tree, found in zip(batch, hashes, strict=True):
            parts = [_row_bytes(part) for part in named_parts(tree, "").values()]
            if isinstance(tree, Mapping) and "attention_mask" in tree:  # padded to the longest text of the batch
                mask = tree["attention_mask"].cpu().bool()
                parts = [[ids[real].numpy() for ids, real in zip(tree["input_ids"].cpu(), mask, strict=True)]]
            found += [_hash(rows) for rows in zip(*parts, strict=True)]
    inputs, targets = (np.array(found, dtype=np.uint64) for found in hashes)
    return inputs, targets


def _row_bytes(part: Tensor) -> list[Any]:
    rows = part.detach().cpu().contiguous().reshape(len(part), -1)
    return list(rows.view(torch.uint8).numpy())


def _hash(rows: tuple[Any, ...]) -> int:
    digest = blake2b(digest_size=8)
    for row in rows:
        digest.update(row)
    return int.from_bytes(digest.digest())


def _within(split: str, sample: Sample, hashes: Any) -> Content:
    _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    repeated = np.flatnonzero(first[which] != np.arange(len(hashes)))
    shown = [[int(sample.index[first[which[place]]]), int(sample.index[place])] for place in repeated[:MAX_SHOWN]]
    names = [[name_of(split, sample.examples, index) for index in pair] for pair in shown]
    return {"splits": [split, split], "count": len(repeated), "of": len(hashes), "examples": shown, "names": names}


def _between(names: tuple[str, str], samples: Mapping[str, Sample], hashes: Mapping[str, Any]) -> Content:
    one, other = (hashes[name] for name in names)
    found = np.flatnonzero(np.isin(other, one))
    shown = []
    for place in found[:MAX_SHOWN]:
        same = int(np.flatnonzero(one == other[place])[0])
        shown.append([int(samples[names[0]].index[same]), int(samples[names[1]].index[place])])
    named = [
        [name_of(name, samples[name].examples, index) for name, index in zip(names, pair, strict=True)]
        for pair in shown
    ]
    return {"splits": list(names), "count": len(found), "of": len(other), "examples": shown, "names": named}


def _count_conflicts(hashes: Mapping[str, Any], targets: Mapping[str, Any]) -> int | None:
    every, target = (np.concatenate([*found.values()]) for found in (hashes, targets))
    if len(target) != len(every):
        return None
    # Inputs that occur with several different targets, and all examples that have them.
    inputs, kinds = np.unique(np.unique(np.stack([every, target], 1), axis=0)[:, 0], return_counts=True)
    return int(np.isin(every, inputs[kinds > 1]).sum())
