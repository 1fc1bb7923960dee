"""The names of weights: matched between a model and a file of whatever program, and listed for the log."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

PREFIX_DEPTH = 3  # parts of a name that a wrapper may have put in front: "module.model.backbone."


def match_names(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, str]:
    """{name in the model: name in the file}; without what DDP and torch.compile put into names.

    The file's names may have a prefix that the model's do not have, and the other way round: "module.conv1.weight" is
    "backbone.conv1.weight". Of all pairs of prefixes, the one is used by which most names and shapes agree.
    """
    plain = {name.replace("_orig_mod.", ""): name for name in given}
    best: tuple[int, dict[str, str]] = (-1, {})
    for start in _prefixes(list(plain)):
        for new in _prefixes(list(own)):
            pairs = {
                new + name[len(start) :]: full
                for name, full in plain.items()
                if name.startswith(start) and new + name[len(start) :] in own
            }
            fitting = sum(own[name].shape == given[full].shape for name, full in pairs.items())
            if fitting > best[0]:  # of equals, the first: the shortest
                best = fitting, pairs
    return best[1]


def _prefixes(names: Sequence[str]) -> list[str]:
    """The prefixes that half of the names have, the shortest first."""

    def beginnings(name: str) -> Iterator[str]:
        parts = name.split(".")
        yield from (".".join([*parts[:count], ""]) for count in range(1, min(PREFIX_DEPTH + 1, len(parts))))

    counts: dict[str, int] = {}
    for name in names:
        for prefix in beginnings(name):
            counts[prefix] = counts.get(prefix, 0) + 1
    return ["", *sorted((prefix for prefix, count in counts.items() if 2 * count >= len(names)), key=len)]


def report(
    used: Sequence[str], own: Mapping[str, Tensor], given: Mapping[str, Tensor], pairs: Mapping[str, str]
) -> list[str]:
    """Lines that say which weights of a model were not in a file, and which of the file were not used.

    Args:
        used: names in the model that have got weights.
        pairs: {name in the model: name in the file}.
    """
    left = [name for name in own if name not in used and not name.startswith("task.")]
    shapes = [f"{n} {_sizes(own[n])}, in the file {_sizes(given[pairs[n]])}" for n in left if n in pairs]
    # Files of before 2018 lack this count, and nothing that is trained depends on it.
    absent = [name for name in left if name not in pairs and not name.endswith("num_batches_tracked")]
    unused = [name for name in given if name not in pairs.values()]
    parts = {"of another shape": shapes, "not in the file, so at random": absent, "in the file alone": unused}
    return [f"  {what}: {shorten(names)}" for what, names in parts.items() if names]


def _sizes(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
