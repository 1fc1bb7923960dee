"""Build an object from a config whose `_target_`s have been checked."""

import re
from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import execution_whitelist, instantiate

from train_smarter.trust.targets import check_targets


def build_object(part: Any, key: str, *, plain: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
    """Instantiate a resolved config.

    Args:
        part: dicts and lists, without interpolations.
        key: its place in the config, which decides what it may build.
        plain: arguments that stay plain dicts, even those with a `_target_`.
        arguments: more arguments of the class.

    Raises:
        UserError: a `_target_` is refused.
        InstantiationException: the class raised an error, which is its cause.
    """
    allowed = execution_whitelist(check_targets(part, key), reset=True)
    options = {"_convert_": "all", "_execution_whitelist_": allowed, **arguments}
    if plain is None:
        return instantiate(escape_interpolations(part), **options)
    factory = instantiate(escape_interpolations(part), _partial_=True, **options)
    try:
        return factory(**plain)
    except Exception as error:
        raise InstantiationException(f"Error in call to target '{part['_target_']}'") from error


def escape_interpolations(node: Any) -> Any:
    """A resolved config in which text that looks like an interpolation is text: Hydra resolves a config once more."""
    if isinstance(node, dict):
        return {key: escape_interpolations(value) for key, value in node.items()}
    if isinstance(node, list):
        return [escape_interpolations(value) for value in node]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", node) if isinstance(node, str) else node
