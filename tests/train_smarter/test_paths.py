from train_smarter.paths import CONF, LOGS, ROOT


def test_configs_and_logs_are_in_the_project() -> None:
    assert (CONF / "train.yaml").is_file()
    assert (ROOT / "pyproject.toml").is_file()
    assert LOGS.is_dir()
