from pathlib import Path
from typing import Any

from train_smarter.trust import rebase_names


def test_names_of_checkpoints_lead_into_the_folder_of_their_file_whatever_they_led_to() -> None:
    state: dict[str, Any] = {
        "dirpath": "/home/user",
        "best_model_path": "/a/checkpoints/best.ckpt",
        "last_model_path": "",
        "kth_best_model_path": "/a/checkpoints/../../home/user/thesis.tex",
        "best_k_models": {"s3://bucket/all.ckpt": 0.5, "/a/b.ckpt": 0.25},
    }
    rebase_names(state, Path("/run"))
    assert state == {
        "dirpath": "/run",
        "best_model_path": "/run/best.ckpt",
        "last_model_path": "",
        "kth_best_model_path": "/run/thesis.tex",
        "best_k_models": {"/run/all.ckpt": 0.5, "/run/b.ckpt": 0.25},
    }


def test_a_state_without_names_gets_none() -> None:
    state: dict[str, Any] = {"best_k_models": None}
    rebase_names(state, Path("/run"))
    assert state["best_model_path"] == ""
    assert state["best_k_models"] == {}
