import zipfile
from pathlib import Path
from typing import Any

from train_smarter.trust import rebase_names


def test_names_lead_to_checkpoints_beside_their_file_or_nowhere(tmp_path: Path) -> None:
    for name in ("best.ckpt", "b.ckpt"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("data", "weights")
    (tmp_path / "thesis.tex").touch()
    (tmp_path / "link.ckpt").symlink_to("thesis.tex")
    (tmp_path / "folder.ckpt").mkdir()
    state: dict[str, Any] = {
        "dirpath": "/home/user",
        "best_model_path": "/a/checkpoints/best.ckpt",
        "last_model_path": "",
        "kth_best_model_path": "/a/checkpoints/../../home/user/thesis.tex",
        "best_k_models": dict.fromkeys(
            ["s3://bucket/all.ckpt", "/a/b.ckpt", "/x/..", "/x/.", "a/link.ckpt", "folder.ckpt", "..ckpt", ".ckpt"], 0.5
        ),
    }
    rebase_names(state, tmp_path)
    assert state == {
        "dirpath": str(tmp_path),
        "best_model_path": f"{tmp_path}/best.ckpt",
        "last_model_path": "",
        "kth_best_model_path": "",
        "best_k_models": {f"{tmp_path}/b.ckpt": 0.5},
    }


def test_a_state_without_names_gets_none() -> None:
    state: dict[str, Any] = {"best_k_models": None}
    rebase_names(state, Path("/run"))
    assert state["best_model_path"] == ""
    assert state["best_k_models"] == {}
