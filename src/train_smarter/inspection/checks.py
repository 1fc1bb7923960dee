"""What a careful look at the data finds: rules on what was measured, each with what to do about it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from train_smarter.diagnosis.findings import ORDER, Finding, join_names

Content = dict[str, Any]
MAX_MEAN, MIN_STD, MAX_STD = 3.0, 0.05, 5.0  # of inputs that were normalized
MAX_UNKNOWN = 0.1  # share of words without an id
SLOW_SECONDS, SLOW_ANYWAY = 0.01, 0.2  # a batch: from where on it matters, and where no step is known
MAX_CLASS_RATIO = 10  # as the diagnosis of a run has it
MAX_FIRST_LOSS = 2.0  # times that of chance


def check_data(found: Content) -> list[Finding]:
    """Findings on the content of data.json, the worst first."""
    rules = (_missing_values, _ranges, _constant_columns, _classes, _duplicates, _conflicts, _words, _time, _loss)
    findings = [finding for rule in rules for finding in rule(found)]
    return sorted(findings, key=lambda finding: ORDER[finding.severity])


def _missing_values(found: Content) -> Iterator[Finding]:
    for part in found["batch"]:
        if part["nan"] or part["infinite"]:
            evidence = f"{part['nan']} NaN and {part['infinite']} infinite values in the {part['part']} of the batch"
            yield Finding("missing_values", "problem", f"{evidence}: fill them, or leave those examples out")
    for name, columns in found["columns"].items():
        bad = [str(column["name"]) for column in columns if column["nan"] or column["infinite"]]
        if bad:
            yield Finding("missing_values", "problem", f"{name} of train hold NaN or infinite values", _list(bad))


def _ranges(found: Content) -> Iterator[Finding]:
    for part in found["batch"]:
        if not part["part"].startswith("inputs") or "float" not in part["dtype"] or part["std"] is None:
            continue
        mean, std = part["mean"], part["std"]
        if std == 0:
            yield Finding("constant_inputs", "problem", f"all {part['part']} of the batch are {mean:.4g}")
        elif abs(mean) > MAX_MEAN or not MIN_STD <= std <= MAX_STD:
            evidence = f"{part['part']} have mean {mean:.3g} and standard deviation {std:.3g}, not about 0 and 1"
            yield Finding("not_normalized", "warning", f"{evidence}{_advise_normalization(found)}")


def _advise_normalization(found: Content) -> str:
    """What to type for images, whose channels were measured as bytes."""
    images: list[list[Content]] = list(found["columns"].values()) if found["kind"] == "images" else []
    channels = next(iter(images), [])
    if not channels or found["normalized_by"] is None:
        return ""
    mean, std = (",".join(f"{channel[key] / 255:.3g}" for channel in channels) for key in ("mean", "std"))
    return f": type 'data.mean=[{mean}]' 'data.std=[{std}]'"


def _constant_columns(found: Content) -> Iterator[Finding]:
    for columns in found["columns"].values():
        constant = [str(column["name"]) for column in columns if column["std"] == 0]
        if constant and len(constant) < len(columns):
            yield Finding("constant_inputs", "warning", "the same value in every training example", _list(constant))


def _classes(found: Content) -> Iterator[Finding]:
    for target in found["targets"]:
        counts: Mapping[str, Mapping[str, int]] = target.get("counts") or {}
        kind = {"labels": "label"}.get(target["kind"], "class")
        for split in found["splits"]:
            missing = [name for name, of in counts.items() if not of.get(split["split"], 0)]
            if missing and split["split"] == "train":
                evidence = f"no training example of {len(missing)} of {len(counts)}: it cannot be learned"
                yield Finding("missing_class", "problem", evidence, join_names(kind, missing))
            elif missing:
                evidence = f"{split['split']} has no example of {len(missing)} of {len(counts)}: it is not measured"
                yield Finding("missing_class", "warning", evidence, join_names(kind, missing))
        train = [of["train"] for of in counts.values() if of.get("train")]
        if target["kind"] == "classes" and train and max(train) >= MAX_CLASS_RATIO * min(train):
            evidence = f"{min(train)} training examples of one class, {max(train)} of another"
            yield Finding(
                "class_imbalance", "warning", f"{evidence}: accuracy says little; task.class_weights=balanced"
            )


def _duplicates(found: Content) -> Iterator[Finding]:
    for pair in (found["duplicates"] or {}).get("pairs", []):
        one, other = pair["splits"]
        if pair["count"] and one != other:
            share = f"{pair['count']} of {pair['of']} examples of {other} are in {one}, too"
            evidence = f"{share}: its metrics are too good" if one == "train" else share
            yield Finding("duplicates", "warning", evidence, _first_pair(pair))
        elif pair["count"]:
            evidence = f"{pair['count']} of {pair['of']} examples of {one} repeat another one"
            yield Finding("duplicates", "note", evidence, _first_pair(pair))


def _first_pair(pair: Content) -> str:
    return "for example " + " and ".join(pair["names"][0])


def _conflicts(found: Content) -> Iterator[Finding]:
    if count := (found["duplicates"] or {}).get("conflicts"):
        evidence = f"{count} examples have the same input as another one, and another target"
        yield Finding("conflicting_targets", "warning", f"{evidence}: one of the two is wrong")


def _words(found: Content) -> Iterator[Finding]:
    words = found["words"]
    if words and words["unknown"] > MAX_UNKNOWN:
        evidence = f"{words['unknown']:.0%} of the words of val have no id of their own"
        yield Finding("unknown_words", "warning", f"{evidence}: give a larger data.vocab_size, or more texts")
    if words and words["cut"] > 0.5:
        evidence = f"{words['cut']:.0%} of the training texts have as many words as are kept, or more"
        yield Finding("cut_texts", "note", f"{evidence}: data.max_length cuts them")


def _time(found: Content) -> Iterator[Finding]:
    seconds, step = found["time"]["seconds"], (found["loss"] or {}).get("step_seconds")
    if seconds is None or seconds < SLOW_SECONDS or seconds < (SLOW_ANYWAY if step is None else step):
        return
    against = "" if step is None else f", and a step of the model {1000 * step:.3g} ms"
    evidence = f"a batch takes {1000 * seconds:.3g} ms{against}: training waits for its data"
    yield Finding("slow_batches", "warning", evidence)


def _loss(found: Content) -> Iterator[Finding]:
    initial, chance = ((found["loss"] or {}).get(name) for name in ("initial", "chance"))
    if initial is not None and initial != initial:  # NaN
        yield Finding("initial_loss", "problem", "the loss of the first batch is NaN at the initial weights")
    elif initial is not None and chance is not None and chance > 0 and initial > MAX_FIRST_LOSS * chance:
        evidence = f"the loss is {initial:.3g} at the initial weights, and {chance:.3g} by chance"
        yield Finding("initial_loss", "warning", f"{evidence}: check the range of inputs and targets")


def _list(names: Sequence[str]) -> str:
    return join_names("column", names)
