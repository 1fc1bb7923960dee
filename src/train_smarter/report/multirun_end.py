"""The end of a grid: its jobs as a table, the best one first. A search prints its own."""

import shlex
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from train_smarter import paths
from train_smarter.run.run_dir import display_name
from train_smarter.terminal import echo, echo_labelled, short_path


class ReportJobs(Callback):
    """Prints what `report run=last` prints of a grid when it ends, and writes its page."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 (Hydra's hook)
        if not str(config.hydra.sweeper.get("_target_")).endswith(".BasicSweeper"):
            return
        # Here: every command instantiates this class.
        from train_smarter.history.find import jobs
        from train_smarter.report import listing, page

        folder = Path(config.hydra.sweep.dir)
        if not jobs(folder):
            return
        echo("", *listing.list_jobs(folder)[1], "")
        if config.get("report", True):
            page.write_at_end(folder)
        echo_labelled(
            f"compare:     report run={display_name(folder, paths.LOGS)}",
            f"TensorBoard: tensorboard --logdir {shlex.quote(short_path(folder))}",
        )
