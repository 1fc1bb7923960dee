"""Walks through a config whose interpolations may lead anywhere."""

from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from train_smarter.errors import UserError


def _nodes(config: Any, path: tuple[str, ...]) -> Iterator[tuple[DictConfig | ListConfig, Any, tuple[str, ...]]]:
    """Container, key and path of each leaf."""
    for key in range(len(config)) if isinstance(config, ListConfig) else list(config):
        child, here = config._get_node(key), (*path, str(key))
        if isinstance(child, DictConfig | ListConfig) and not child._is_none() and not child._is_interpolation():
            yield from _nodes(child, here)
        else:
            yield config, key, here


def raw_leaves(config: DictConfig, group: str | None = None) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Keys to each value, and the value, an interpolation as it is written."""
    root = config if group is None else config._get_node(group)
    if not isinstance(root, DictConfig) or root._is_none() or root._is_interpolation():
        return
    for parent, key, path in _nodes(root, () if group is None else (group,)):
        yield path, parent._get_node(key)._value()  # type: ignore[union-attr]


def leaves(config: DictConfig, group: str | None = None) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Keys to each value, and the value; of an interpolation, the values that it leads to.

    What cannot be resolved is left out: nothing can be built of it, either.
    """
    for name in list(config) if group is None else [group]:
        yield from _resolved_leaves(config, name, (str(name),))


def _resolved_leaves(parent: Any, key: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    try:
        value = parent[key]
    except (OmegaConfBaseException, LookupError, UserError):
        return
    if isinstance(value, DictConfig | ListConfig):
        for inner in range(len(value)) if isinstance(value, ListConfig) else list(value):
            yield from _resolved_leaves(value, inner, (*path, str(inner)))
    else:
        yield path, value


def raw(config: Any, path: Sequence[str], default: Any = None) -> Any:
    """The value at a path, with its interpolations."""
    for key in path:
        place: Any = int(key) if isinstance(config, ListConfig) and key.isdigit() else key
        known = isinstance(config, DictConfig | ListConfig) and not config._is_none() and not config._is_interpolation()
        config = config._get_node(place) if known and _has(config, place) else None
        if config is None:
            return default
    if isinstance(config, DictConfig | ListConfig):
        return OmegaConf.to_container(config, resolve=False)
    return config._value()


def _has(config: Any, key: Any) -> bool:
    return key < len(config) if isinstance(config, ListConfig) else key in config.keys()  # noqa: SIM118 (a missing value is there)


def resolved(config: DictConfig, path: Sequence[str], default: Any = None) -> Any:
    """The value at a path; the default where there is none, or its interpolation leads nowhere."""
    node: Any = config
    try:
        for key in path:
            node = node[int(key)] if isinstance(node, ListConfig) else node[key]
        return OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig | ListConfig) else node
    except (OmegaConfBaseException, LookupError, TypeError, ValueError, UserError):
        return default


def put(config: DictConfig, path: Sequence[str], value: Any, *, remove: bool = False) -> bool:
    """Set or remove the value at a path; False where the path goes through an interpolation."""
    parent: Any = config
    for key in path[:-1]:
        parent = parent._get_node(int(key) if isinstance(parent, ListConfig) else key)
        if parent._is_interpolation():
            return False
    if remove:
        parent.pop(path[-1], None)
    else:
        parent[path[-1]] = value
    return True
