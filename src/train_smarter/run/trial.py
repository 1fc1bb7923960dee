"""The trial of a search that this process runs, if any."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from train_smarter.errors import UserError
from train_smarter.quoting import quote

TRIAL_VARIABLE = "TRAIN_SMARTER_TRIAL"  # the environment variable


# ---- what a job knows of it


@dataclass(frozen=True)
class TrialRef:
    """Which trial of which study a job is."""

    storage: str
    study: str
    number: int

    def override(self) -> str:
        """The word that takes it to the job, wherever that runs, and to all processes of it."""
        return f"++hydra.job.env_set.{TRIAL_VARIABLE}={quote(json.dumps(asdict(self)))}"


def current_trial() -> TrialRef | None:
    """That of this process; None: it is no trial of a search."""
    content = os.environ.get(TRIAL_VARIABLE)
    try:
        return TrialRef(**json.loads(content)) if content else None
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{TRIAL_VARIABLE}={content!r} in the environment is no trial of a search: type unset {TRIAL_VARIABLE}"
        ) from error
