"""Settings of the sweeper: what is typed under `hydra.sweeper`."""

import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.search.study import Direction


def default_to_processes(config: DictConfig) -> None:
    """What hydra/launcher=process does, in a config that has been composed."""
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.launcher = OmegaConf.load(paths.CONF / "hydra" / "launcher" / "process.yaml")
        config.hydra.runtime.choices["hydra/launcher"] = "process"
        config.hydra.overrides.hydra.append("hydra/launcher=process")  # a job's config is composed with these


def parse_directions(given: Any) -> list[Direction]:
    """One for each objective."""
    known: dict[str, Direction] = {"minimize": "minimize", "maximize": "maximize"}
    several = [str(one) for one in (given if isinstance(given, ListConfig | list) else [given])]
    if wrong := [one for one in several if one not in known]:
        raise UserError(f"hydra.sweeper.direction={wrong[0]}: give minimize or maximize")
    return [known[one] for one in several]


def check_name(value: Any) -> str:
    """A study's name; its follow-up's, name_2, has to be a name on the command line, too."""
    if isinstance(value, str) and not re.fullmatch(r"[\d_.eE+-]*", value):
        return value
    read = "" if isinstance(value, str) else f" ({value!r}, as Hydra reads it)"
    raise UserError(
        f"hydra.sweeper.study_name={value}{read}: give a name with letters, for example "
        f"hydra.sweeper.study_name=study_{value}"
    )


def check_rate(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise UserError(f"hydra.sweeper.max_failure_rate={value}: give a number from 0 to 1")
    return value


def check_count(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"hydra.sweeper.{key}={value}: give a whole number of at least 1")
    return value
