"""Facts of data that a config leaves open: the number of classes, for example, which only the files know."""

from omegaconf import DictConfig, OmegaConf, open_dict

OPEN = "train_smarter.data.huggingface.HuggingFace"  # becomes one of its subclasses


def fill_facts(cfg: DictConfig) -> bool:
    """Set the class and the facts of data that `datasets` loads; a run records them, so later commands need no data.

    Returns:
        Whether something was set.

    Raises:
        UserError: the data cannot be read, or do not fit the task.
    """
    data = cfg.get("data")
    if not isinstance(data, DictConfig) or data.get("_target_") != OPEN or OmegaConf.is_missing(data, "path"):
        return False
    from train_smarter.data.huggingface import describe, unused_keys

    settings = {
        str(key): OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        for key in data
        if key not in ("tokenizer", "shape")
        for value in [data[key]]
    }
    task = str((cfg.get("task") or {}).get("_target_", "")).rpartition(".")[2]
    facts = describe(settings, task)
    with open_dict(data):
        for key in unused_keys(facts["_target_"]):
            data.pop(key, None)
        data.update(facts)
    return True
