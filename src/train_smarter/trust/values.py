"""What a text in a saved config or override may do: read the environment, name an address, lead out of a folder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# `${a.b}`, or one of the resolvers of the shipped config with plain arguments.
PLAIN = re.compile(
    r"\$\{(\.*[\w.\[\]-]+|project_root:|hydra:runtime\.output_dir|hydra:job\.num|(fused|count_classes|count_targets|target_type|interaction_rows|count_interactions|table_shape|image_shape|headline|metric_mode):[^${}]*)\}"
)
URL = re.compile(r"[A-Za-z][\w+.-]*://|::")  # fsspec chains file systems by `::`
# A value of these keys decides where data come from, or go to.
NETWORK = re.compile(r"urls?|uris?|hosts?|hostname|address|endpoint|server|mirrors?|md5|sha\d+|checksums?", re.I)
# A value of these keys is a file or a folder, though a relative one looks like any other word.
FOLDER = re.compile(
    r"dirs?|dirpath|dirname|directory|paths?|root|folder|files?|filepath|out|output|dest|destination|location|cache|masks",
    re.I,
)
# A value of these keys of data or a model may be a name on a hub, from which something is fetched.
HUB = re.compile(r"name|path|tokenizer|revision|repo|repo_id", re.I)
FIELD = re.compile(r"\{[\w-]+(/[\w-]+)*(:0?\d*(\.\d+)?[deEfFgG%]?)?\}")  # of a file name's pattern: {epoch:02d}
WRITING = ("callbacks", "logger", "trainer")  # groups whose objects write files
LOGGERS = ("lightning.pytorch.loggers.TensorBoardLogger", "lightning.pytorch.loggers.CSVLogger")
STRATEGY = re.compile(r"auto|(ddp|fsdp|single|xla)\w*|model_parallel")  # strategies by name; DeepSpeed reads any file
ELSEWHERE = ("SpikeDetection",)  # writes to the current folder, or where a checkpoint's state says


def _is_named(pattern: re.Pattern[str], key: str) -> bool:
    """Whether a key is named so: `data_dir` and `dir`, not `direction`."""
    return any(pattern.fullmatch(part) for part in re.split(r"[_\W]", key)) or pattern.fullmatch(key) is not None


def has_interpolation(text: str) -> bool:
    """Whether an interpolation in a text reads anything but the config: the environment, say."""
    before = None
    while text != before:  # from the innermost outwards
        before, text = text, PLAIN.sub("", text)
    return "${" in text


def is_remote(path: Sequence[str], value: Any) -> int:
    """How many keys lead to an address or a checksum, which decides where data come from or go to; 0: it is none.

    The key itself counts, too: a data set that goes through a dict gets its keys.
    """
    for place, key in enumerate(path):
        if _is_named(NETWORK, key) and value not in (None, ""):
            return place + 1
        if URL.search(key):
            return place
    remote = isinstance(value, str) and URL.search(value) is not None
    # Lightning's checkpoints may also be "registry:...".
    remote |= path[-1] in ("ckpt_path", "pretrained") and re.match(r"[A-Za-z][\w+.-]+:", str(value)) is not None
    listed = next((place for place, key in enumerate(path) if key.isdigit()), len(path))
    return listed if remote else 0


def is_hub_name(path: Sequence[str]) -> bool:
    """Whether a text of data or of a model may be a name on a hub."""
    return path[0] in ("data", "model") and HUB.fullmatch(path[-1]) is not None


def is_outside(path: Sequence[str], text: str, homes: Sequence[Path]) -> bool:
    """Whether a file that is written where a text says may be outside of the homes.

    Args:
        path: keys to the value; the last name among them says whether a plain word is a file.
    """
    key = next((key for key in reversed(path) if not key.isdigit()), "")
    if URL.search(text) or "\0" in text or "$" in text or re.search(r"%\w+%", text):
        return True
    if key == "filename" and "{" in FIELD.sub("", text):
        return True
    if ".." in re.split(r"[/\\]", text):
        return True
    if text[:1] in ("/", "~", "\\") or re.match(r"[A-Za-z]:", text):
        return not any(Path(text).resolve().is_relative_to(home.resolve()) for home in homes)
    return _is_named(FOLDER, key)  # relative to the folder in which a command is typed


def is_path(path: Sequence[str], text: str) -> bool:
    """Whether a text is a file or folder to read; of data, whether it may be one."""
    key = next((key for key in reversed(path) if not key.isdigit()), "")
    if key == "cache" and text in ("memory", "disk", "none"):  # a choice, see data/storage.py
        return False
    marks = r"[/\\~]" if path[0] == "data" else r"^([/~\\]|\.{1,2}[/\\]|[A-Za-z]:[/\\])"
    return _is_named(FOLDER, key) or re.search(marks, text) is not None
