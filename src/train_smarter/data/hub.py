"""Hugging Face's libraries: imported where they are used, and held off the network where a run may not download."""

import logging
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from train_smarter.errors import UserError, did_you_mean, first_paragraph

log = logging.getLogger(__name__)

SPLIT_NAMES = {"train": ("train",), "val": ("validation", "valid", "val", "dev"), "test": ("test",)}


def import_extra(package: str, user: str) -> Any:
    """A package of the extra `hf`.

    Args:
        user: what needs it, for the message: "model=transformer".
    """
    try:
        module = import_module(package)
    except ImportError as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing not in ("transformers", "datasets", "huggingface_hub", "safetensors"):
            raise
        raise UserError(
            f"{user} needs a package that is not installed ({missing}): uv pip install -e '.[hf]'"
        ) from error
    import_module(f"{package}.utils.logging").set_verbosity_error()  # this package's log has what counts
    if not sys.stderr.isatty():
        import_module(f"{package}.utils.logging").disable_progress_bar()
    return module


@contextmanager
def hub_access(key: str, name: str, *, download: bool, known: Sequence[str] = ()) -> Iterator[None]:
    """Load something from a folder, the cache of Hugging Face, or the hub; a failure becomes one message.

    Args:
        key: what was typed: "model.name".
        name: its value.
        download: False: nothing reaches the network.
        known: other values, for a hint at a misspelled one.

    Raises:
        UserError: it cannot be loaded.
    """
    here = name in known or Path(name).expanduser().exists()
    online = download and (here or _hub_answers())
    try:
        with nullcontext() if online else offline():
            yield
    except UserError:
        raise
    except Exception as error:  # each library fails in its own ways
        hint = "" if name in known else did_you_mean(name, known)
        raise UserError(f"{key}={name}: {_reason(error, key, download=download)}{hint}") from error


def _reason(error: Exception, key: str, *, download: bool) -> str:
    while type(error).__name__ == "DatasetGenerationError" and isinstance(error.__cause__, Exception):
        error = error.__cause__  # of the reader of a file
    names = {kind.__name__ for kind in type(error).__mro__}
    text = first_paragraph(error)
    unreachable = bool(names & {"ConnectionError", "OfflineModeIsEnabled"}) or "connect to" in text
    if "backend tokenizer" in text:
        return "it holds no tokenizer that transformers reads; save one there by tokenizer.save_pretrained"
    if unreachable and not download:
        return (
            "it is not on this machine, and nothing is downloaded that only a run's config names, or under "
            f"{key.partition('.')[0]}.download=false: type {key}=... yourself, or name a local folder"
        )
    if unreachable:
        return "it is not on this machine, and the hub cannot be reached: name a local folder, or try again"
    return text.rstrip(".")[:300]


@lru_cache(maxsize=1)
def _hub_answers() -> bool:
    """Whether the hub can be reached, within seconds: the libraries would try for a minute."""
    if getproxies():
        return True  # it is reached in another way
    address = urlsplit(import_module("huggingface_hub.constants").ENDPOINT)
    try:
        socket.create_connection((str(address.hostname), address.port or 443), timeout=5).close()
    except OSError:
        log.warning("%s cannot be reached: what was fetched before is used", address.hostname)
        return False
    return True


@contextmanager
def offline() -> Iterator[None]:
    """Without requests to the hub; both libraries read their own copy of the environment variable."""
    places: list[Any] = [import_module("huggingface_hub.constants")]
    places += [sys.modules["datasets.config"]] if "datasets.config" in sys.modules else []
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place in places:
            place.HF_HUB_OFFLINE = True
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def official_splits(found: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The splits that `datasets` found under `path`, by our names; the only one is train."""
    splits = {
        split: next((found[name] for name in names if name in found), None) for split, names in SPLIT_NAMES.items()
    }
    known = {name for names in SPLIT_NAMES.values() for name in names}
    others = [name for name in found if name not in known]
    if splits["train"] is None and len(found) == 1:
        splits["train"], others = next(iter(found.values())), []
        splits |= {"val": None, "test": None}
    if splits["train"] is None:
        raise UserError(f"data.path={path} has the splits {', '.join(found)}, and none of them is called train")
    if others:
        log.info("%s: splits that are not used: %s", path, ", ".join(others))
    return {split: dataset for split, dataset in splits.items() if dataset is not None}
