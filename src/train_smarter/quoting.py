"""Write values as Hydra's command line takes them."""

import re
from collections.abc import Sequence


def to_cli(value: object, digits: int | None = None) -> str:
    """A value as an override spells it: null, true, [1,2]. `digits`: significant digits of floats; None: all."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and digits is not None:
        return f"{value:.{digits}g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(to_cli(one, digits) for one in value)}]"
    return str(value)


def quote(value: object) -> str:
    """A value that Hydra's grammar and OmegaConf's interpolation take as it stands.

    To both a backslash is itself, but in front of what it would protect: a quote, the end, or `${`.
    """
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", str(value))
    return "'" + re.sub(r"(\\*)('|\Z)", lambda end: end[1] * 2 + end[2].replace("'", "\\'"), text) + "'"
