"""Quote values for Hydra's override grammar."""

import re


def quote(value: object) -> str:
    """A value that Hydra's grammar and OmegaConf's interpolation take as it stands.

    To both a backslash is itself, but in front of what it would protect: a quote, the end, or `${`.
    """
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", str(value))
    return "'" + re.sub(r"(\\*)('|\Z)", lambda end: end[1] * 2 + end[2].replace("'", "\\'"), text) + "'"
