"""Whether the processes that a launcher (torchrun, srun) has started are those that the trainer is set for."""

import os
from collections.abc import Iterator, Mapping

from omegaconf import DictConfig, ListConfig, OmegaConf

from train_smarter.config.rules import is_int

NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_NTASKS", "SLURM_PROCID")


def check_processes(cfg: DictConfig) -> Iterator[str]:
    """Compare the launcher's variables with devices and nodes; other commands than train and evaluate use none."""
    found = {name: os.environ[name] for name in NUMBERS if os.environ.get(name)}
    for name, value in found.items():
        if not value.isdigit():
            yield f"{name}={value} in the environment is not a number: type unset {name}"
            return
    if not ("train" in cfg or "splits" in cfg) or not OmegaConf.select(cfg, "trainer"):
        return
    world = _world(found)
    if world is None:
        stray = [f"{name}={found[name]}" for name in ("RANK", "LOCAL_RANK") if int(found.get(name, 0)) > 0]
        if stray:
            yield (
                f"{stray[0]} is in the environment, but no launcher has started this process (there is no WORLD_SIZE): "
                f"type unset {stray[0].partition('=')[0]}"
            )
        return
    yield from _check_world(cfg.trainer, *world)


def _world(found: Mapping[str, str]) -> tuple[str, int, int | None] | None:
    """The variable with the number of processes, that number, and how many of them a node has."""
    if "WORLD_SIZE" in found and ("RANK" in found or "LOCAL_RANK" in found):
        local = found.get("LOCAL_WORLD_SIZE")
        return "WORLD_SIZE", int(found["WORLD_SIZE"]), int(local) if local else None
    if "SLURM_NTASKS" in found and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        per_node = os.environ.get("SLURM_NTASKS_PER_NODE", "")
        return "SLURM_NTASKS", int(found["SLURM_NTASKS"]), int(per_node) if per_node.isdigit() else None
    return None


def _check_world(trainer: DictConfig, variable: str, world: int, local: int | None) -> Iterator[str]:
    if variable == "SLURM_NTASKS" and world > 1 and local is None:
        nodes = os.environ.get("SLURM_NNODES", "1")
        local = world // int(nodes) if nodes.isdigit() and int(nodes) else world
        yield f"SLURM_NTASKS={world}: start the job with --nodes={nodes} --ntasks-per-node={local} instead of --ntasks"
        return
    devices, nodes = devices_per_node(trainer), trainer.get("num_nodes", 1)
    if devices is None or not is_int(nodes) or world == devices * nodes:
        return
    local = local or (devices if world % devices == 0 else world)
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
