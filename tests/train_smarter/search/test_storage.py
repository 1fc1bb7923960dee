"""A damaged journal of a study is named, with what to type."""

from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from train_smarter.errors import UserError
from train_smarter.search.storage import open_storage


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "study.log"
    study = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(path))), study_name="a")
    study.tell(study.ask(), 1.0)
    return path


@pytest.mark.parametrize("line", [b"garbage\n", b"\xff\x00\n", b"[]\n", b"null\n", b"{}\n"])
def test_a_line_that_is_no_entry_is_named_wherever_it_is(journal: Path, line: bytes) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    for place in (len(lines), 1):
        journal.write_bytes(b"".join([*lines[:place], line, *lines[place:]]))
        open_storage.cache_clear()
        with pytest.raises(UserError) as caught:
            open_storage(f"journal://{journal}")
        assert str(caught.value) == (
            f"{journal} is damaged: line {place + 1} is no entry of a study; to continue with the lines before it, "
            f"type head -n {place} {journal} > {journal}.new && mv {journal}.new {journal}"
        )


def test_what_a_killed_process_was_writing_is_cut_off(journal: Path) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 3, "wor')
    open_storage.cache_clear()
    assert [study.study_name for study in open_storage(f"journal://{journal}").get_all_studies()] == ["a"]
    assert journal.read_bytes() == whole
