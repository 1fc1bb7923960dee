from pathlib import Path

import pytest

from train_smarter.trust.values import has_interpolation, is_outside, is_path, is_remote


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("plain", False),
        ("${data.shape}", False),
        ("${..size} and ${a.b[0]}", False),
        ("${project_root:}/x", False),
        ("${hydra:runtime.output_dir}/x", False),
        ("${fused:${trainer.precision}}", False),
        ("${count_classes:${.dir}}", False),
        ("${count_targets:num_classes}", False),
        ("${target_type:}", False),
        ("${table_shape:}", False),
        ("${interaction_rows:}", False),
        ("${count_interactions:num_users}", False),
        ("${.releases.${.release}.num_users}", False),
        ("${count_interactions:${oc.env:SECRET}}", True),
        ("${count_targets:${oc.env:SECRET}}", True),
        ("${oc.env:SECRET}", True),
        ("${oc.env:SECRET,x}", True),
        ("\\${oc.env:SECRET}", True),
        ("${${a}:SECRET}", True),
        ("${oc.${a}:SECRET}", True),
        ("${fused:${oc.env:SECRET}}", True),
        ("${hydra:job.env_set}", True),
        ("${now:%Y}", True),
        ("${oc.decode:x}", True),
        ("${mine:}", True),
        ("${ oc.env : SECRET }", True),
        ("${", True),
    ],
)
def test_an_interpolation_reads_the_config_alone_or_more(text: str, more: bool) -> None:
    assert has_interpolation(text) == more


RUN = Path("/runs/a")


@pytest.mark.parametrize(
    ("key", "text", "out"),
    [
        ("dirpath", "/runs/a/checkpoints", False),
        ("dirpath", "/runs/a", False),
        ("dirpath", "/runs/ab", True),
        ("dirpath", "/runs/a/../b", True),
        ("dirpath", "/", True),
        ("dirpath", "checkpoints", True),  # in the folder where a command is typed
        ("dirpath", "", True),
        ("dirpath", "~/x", True),
        ("dirpath", "C:\\x", True),
        ("dirpath", "\\\\server\\x", True),
        ("save_dir", "$HOME", True),
        ("save_dir", "%APPDATA%", True),
        ("save_dir", "file:///runs/a", True),
        ("save_dir", "simplecache::/runs/a", True),
        ("exclude_batches_path", "x", True),
        ("name", "tensorboard", False),
        ("name", "a/b", False),
        ("version", "../x", True),
        ("version", "a\\..\\x", True),
        ("filename", "best", False),
        ("filename", "{epoch:02d}-{val/loss:.2f}", False),
        ("filename", "{step:c}", True),
        ("filename", "{epoch:.>2}", True),
        ("filename", "{epoch.__class__}", True),
        ("filename", "{/elsewhere/x}", True),  # which Lightning may spell as /elsewhere/x=0
        ("filename", "{a//b}", True),
        ("monitor", "val/accuracy", False),
        ("max_time", "00:02:00:00", False),
        ("precision", "32-true", False),
        ("x", "a\0b", True),
    ],
)
def test_a_file_is_written_in_the_runs_folder_or_may_be_elsewhere(key: str, text: str, out: bool) -> None:
    assert is_outside(("callbacks", "c", key), text, [RUN]) == out


def test_the_last_name_counts_in_a_list() -> None:
    assert is_outside(("callbacks", "c", "dirs", "0"), "x", [RUN])
    assert not is_outside(("callbacks", "charts", "curves", "0"), "val/loss", [RUN])


@pytest.mark.parametrize(
    ("path", "value", "remote"),
    [
        (("data", "urls", "0"), "https://x", True),
        (("data", "md5"), "c32a", True),
        (("data", "base_url"), "x.org", True),
        (("logger", "l", "tracking_uri"), "sqlite:///x", True),
        (("logger", "l", "host"), "x", True),
        (("model", "name"), "hf://x", True),
        (("model", "hash_buckets"), 100, False),
        (("data", "md5"), None, False),
        (("optimizer", "lr"), 0.1, False),
        (("data", "keep"), "start", False),
        (("data", "urls", "http://x"), 1, True),
        (("data", "http://x"), 1, True),
        (("ckpt_path",), "registry:x", True),
        (("ckpt_path",), "C:\\x", False),
    ],
)
def test_an_address_or_a_checksum_is_known_by_its_key_or_by_its_scheme(
    path: tuple[str, ...], value: object, remote: bool
) -> None:
    assert bool(is_remote(path, value)) == remote


@pytest.mark.parametrize(
    ("path", "text", "is_one"),
    [
        (("data", "dir"), "photos", True),
        (("data", "masks"), "masks", True),
        (("data", "mask_fill"), "masks", False),
        (("data", "x"), "a/b", True),
        (("data", "keep"), "start", False),
        (("data", "cache"), "disk", False),
        (("data", "cache"), "elsewhere", True),
        (("data", "cache_dir"), "disk", True),
        (("model", "pretrained"), "/a.ckpt", True),
        (("model", "pretrained"), "timm/resnet", False),
        (("monitor",), "val/loss", False),
    ],
)
def test_a_text_is_a_file_to_read_or_a_word(path: tuple[str, ...], text: str, is_one: bool) -> None:
    assert is_path(path, text) == is_one
