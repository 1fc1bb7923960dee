"""Whether the processes that a launcher (torchrun, srun) has started are those that the trainer is set for."""

import os
from collections.abc import Iterator

from omegaconf import DictConfig, ListConfig, OmegaConf

from train_smarter.config.rules import is_int
from train_smarter.run.run_dir import int_variable


def check_processes(cfg: DictConfig) -> Iterator[str]:
    """Compare the launcher's variables with devices and nodes; other commands than train and evaluate use none."""
    if ("train" in cfg or "splits" in cfg) and OmegaConf.select(cfg, "trainer") and (world := _world()) is not None:
        yield from _check_world(cfg.trainer, *world)


def _world() -> tuple[str, int, int | None] | None:
    """The variable with the number of processes, that number, and how many of them a node has."""
    variables = os.environ
    if "WORLD_SIZE" in variables and ("RANK" in variables or "LOCAL_RANK" in variables):
        return "WORLD_SIZE", int_variable("WORLD_SIZE"), int_variable("LOCAL_WORLD_SIZE") or None
    if "SLURM_NTASKS" in variables and variables.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return "SLURM_NTASKS", int_variable("SLURM_NTASKS"), int_variable("SLURM_NTASKS_PER_NODE") or None
    return None


def _check_world(trainer: DictConfig, variable: str, world: int, local: int | None) -> Iterator[str]:
    if variable == "SLURM_NTASKS" and world > 1 and local is None:
        nodes = max(1, int_variable("SLURM_NNODES", 1))
        local = world // nodes
        yield f"SLURM_NTASKS={world}: start the job with --nodes={nodes} --ntasks-per-node={local} instead of --ntasks"
        return
    devices, nodes = devices_per_node(trainer), trainer.get("num_nodes", 1)
    if devices is None or not is_int(nodes) or nodes < 1 or world == devices * nodes:
        return
    local = local or (world // nodes if world % nodes == 0 else world)
    words = f"trainer.devices={local} ++trainer.num_nodes={world // local} ++trainer.strategy=ddp"
    yield (
        f"{variable}={world}: the launcher has started {world} processes, but trainer.devices={devices} times "
        f"trainer.num_nodes={nodes} makes {devices * nodes}: type {words}, or start as many as that"
    )


def devices_per_node(trainer: DictConfig) -> int | None:
    """As far as the config alone shows it; None: the machine decides."""
    devices = trainer.get("devices", "auto")
    if isinstance(devices, ListConfig):
        return len(devices)
    if isinstance(devices, str) and "," in devices:
        return len([one for one in devices.split(",") if one])
    if str(devices).isdigit():
        return int(devices)
    return 1 if devices == "auto" and trainer.get("accelerator") == "cpu" else None
