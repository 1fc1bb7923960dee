"""The trust boundary: what a run's folder may ask for, since it may come from a stranger. Imports nothing heavy.

Whatever reads a folder that it has not just written goes through here: `check_folder` before anything is written in it,
`split_overrides` for words that return to a command line, `check_config` for a saved config, `check_trials` for a
study, `check_targets` for the classes that any config may build. docs/security.md describes the whole.
"""

from train_smarter.trust.checkpoint import rebase_names
from train_smarter.trust.config import check_config, rebase_paths
from train_smarter.trust.folder import check_folder
from train_smarter.trust.overrides import RUN_KEYS, choices, keys, name_data, split_overrides
from train_smarter.trust.study import check_trials, is_value_of
from train_smarter.trust.targets import check_targets

__all__ = [
    "RUN_KEYS",
    "check_config",
    "check_folder",
    "check_targets",
    "check_trials",
    "choices",
    "is_value_of",
    "keys",
    "name_data",
    "rebase_names",
    "rebase_paths",
    "split_overrides",
]
