import errno
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from train_smarter.data import download
from train_smarter.data.download import fetch, published_md5, unpack
from train_smarter.errors import UserError

CONTENT = bytes(range(256)) * 40  # 10,240 bytes
MD5 = hashlib.md5(CONTENT).hexdigest()
DEAD = "http://127.0.0.1:9/file"  # the discard port: nothing listens


class Server:
    """A web server on this machine, and what it was asked for.

    `/file` is CONTENT, `/wrong` something else of the same length, `/breaks` ends in the middle of its first answer,
    `/always-breaks` of each, `/breaks-without-length` too, and gives no length; `/hangs` never answers.
    """

    def __init__(self) -> None:
        self.ranges, self.hanging = True, False
        self.asked: list[tuple[str, str | None]] = []
        self.stop = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers["Range"]
        self.asked.append((request.path, wanted))
        if request.path == "/hangs":
            self.hanging = True
            self.stop.wait(5)
            self.hanging = False
            return
        content = bytes(len(CONTENT)) if request.path == "/wrong" else CONTENT
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if request.path != "/breaks-without-length":
            request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        first = [path for path, _ in self.asked].count(request.path) == 1
        breaks = request.path in ("/always-breaks", "/breaks-without-length") or (request.path == "/breaks" and first)
        request.wfile.write(content[start : start + 1000 if breaks else None])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.stop.set()
    server.http.shutdown()
    server.http.server_close()
    thread.join(timeout=5)


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "file.bin"


def half(dest: Path, content: bytes) -> None:
    """What an earlier, broken download left."""
    dest.parent.mkdir()
    dest.with_name("file.bin.part").write_bytes(content)


def test_a_file_arrives_whole_and_leaves_no_part(server: Server, dest: Path) -> None:
    assert fetch([f"{server.url}/file"], dest, md5=MD5) == dest
    assert dest.read_bytes() == CONTENT
    assert not dest.with_name("file.bin.part").exists()


def test_a_file_that_is_there_is_not_asked_for(server: Server, dest: Path) -> None:
    dest.parent.mkdir()
    dest.write_bytes(CONTENT)
    fetch([f"{server.url}/file"], dest, md5=MD5.upper())
    assert server.asked == []
    assert list(dest.parent.iterdir()) == [dest]  # a folder that cannot be written to would do


def test_a_file_with_other_content_is_replaced(server: Server, dest: Path) -> None:
    dest.parent.mkdir()
    dest.write_bytes(CONTENT[:-1])
    fetch([f"{server.url}/file"], dest, md5=MD5)
    assert dest.read_bytes() == CONTENT


def test_a_broken_download_goes_on_where_it_stopped(server: Server, dest: Path) -> None:
    half(dest, CONTENT[:4000])
    fetch([f"{server.url}/file"], dest, md5=MD5)
    assert dest.read_bytes() == CONTENT
    assert server.asked == [("/file", "bytes=4000-")]


def test_without_ranges_it_starts_anew(server: Server, dest: Path) -> None:
    server.ranges = False
    half(dest, CONTENT[:4000])
    fetch([f"{server.url}/file"], dest, md5=MD5)
    assert dest.read_bytes() == CONTENT
    assert [path.name for path in dest.parent.iterdir() if ".part" in path.name] == []


def test_another_answer_than_the_file_leaves_the_beginning_as_it_is(server: Server, dest: Path) -> None:
    """The login page of a network answers any request with itself, whatever range is asked for."""
    server.ranges = False
    half(dest, CONTENT[:4000])
    with pytest.raises(UserError, match="could not be downloaded"):
        fetch([f"{server.url}/wrong"], dest, md5=MD5)
    assert dest.with_name("file.bin.part").read_bytes() == CONTENT[:4000]
    server.ranges = True
    fetch([f"{server.url}/file"], dest, md5=MD5)
    assert server.asked[-1] == ("/file", "bytes=4000-")
    assert dest.read_bytes() == CONTENT


def test_what_a_killed_process_had_begun_anew_is_used_if_it_is_longer(server: Server, dest: Path) -> None:
    half(dest, CONTENT[:4000])
    dest.with_name("file.bin.part.new").write_bytes(CONTENT[:6000])
    fetch([f"{server.url}/file"], dest, md5=MD5)
    assert server.asked == [("/file", "bytes=6000-")]


def test_a_beginning_from_a_server_that_gives_no_length_is_continued(server: Server, dest: Path) -> None:
    with pytest.raises(UserError, match="could not be downloaded"):
        fetch([f"{server.url}/breaks-without-length"], dest, md5=MD5)
    fetch([f"{server.url}/file"], dest, md5=MD5)
    assert server.asked[-1] == ("/file", "bytes=1000-")
    assert dest.read_bytes() == CONTENT


def test_a_connection_that_breaks_is_taken_up_again(server: Server, dest: Path) -> None:
    fetch([f"{server.url}/breaks"], dest, md5=MD5)
    assert dest.read_bytes() == CONTENT
    assert server.asked == [("/breaks", None), ("/breaks", "bytes=1000-")]


def test_what_one_server_sent_is_completed_by_the_next(server: Server, dest: Path) -> None:
    fetch([f"{server.url}/always-breaks", f"{server.url}/file"], dest, md5=MD5)
    assert dest.read_bytes() == CONTENT
    assert server.asked[-2:] == [("/always-breaks", "bytes=4000-"), ("/file", "bytes=5000-")]  # five tries of 1000


def test_a_part_that_is_whole_already_is_taken(server: Server, dest: Path) -> None:
    half(dest, CONTENT)
    fetch([f"{server.url}/file"], dest, md5=MD5)
    assert dest.read_bytes() == CONTENT
    assert server.asked == [("/file", "bytes=10240-")]


@pytest.mark.parametrize("old", [b"of another version", b"longer" * 5000], ids=["shorter", "longer"])
def test_an_old_beginning_that_does_not_fit_is_thrown_away(server: Server, dest: Path, old: bytes) -> None:
    half(dest, old)
    fetch([f"{server.url}/file"], dest, md5=MD5)
    assert dest.read_bytes() == CONTENT
    assert server.asked == [("/file", f"bytes={len(old)}-"), ("/file", None)]


def test_a_dead_url_gives_way_to_the_next(server: Server, dest: Path) -> None:
    fetch([DEAD, "nonsense", f"{server.url}/file"], dest, md5=MD5)
    assert dest.read_bytes() == CONTENT


def test_wrong_content_gives_way_to_the_next_url(server: Server, dest: Path) -> None:
    fetch([f"{server.url}/wrong", f"{server.url}/file"], dest, md5=MD5)
    assert dest.read_bytes() == CONTENT
    assert server.asked == [("/wrong", None), ("/file", None)]


def test_a_server_that_hangs_gives_way_to_the_next(server: Server, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    fetch([f"{server.url}/hangs", f"{server.url}/file"], dest, md5=MD5)
    assert server.hanging
    assert dest.read_bytes() == CONTENT


def test_a_file_is_downloaded_once_for_all_who_ask_for_it(server: Server, dest: Path) -> None:
    threads = [threading.Thread(target=fetch, args=([f"{server.url}/file"], dest), kwargs={"md5": MD5}) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert dest.read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_without_any_source_the_message_tells_how_to_go_on(server: Server, dest: Path) -> None:
    with pytest.raises(UserError) as failed:
        fetch([DEAD, f"{server.url}/wrong"], dest, md5=MD5, hint="data=digits needs no download")
    first, dead, wrong, by_hand, otherwise = str(failed.value).splitlines()
    assert first == "file.bin could not be downloaded:"
    assert dead.startswith(f"  {DEAD}: ")
    assert wrong == f"  {server.url}/wrong: the file there has another md5"
    assert by_hand == f"  download it by hand from one of these, to {dest} (md5 {MD5}), and start again"
    assert otherwise == "  or: data=digits needs no download"
    assert not dest.exists()
    assert not dest.with_name("file.bin.part").exists()


def test_without_a_folder_to_write_to_the_message_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data\.bin cannot be written: .*; choose another folder with paths\.data"):
        fetch([DEAD], tmp_path / "file" / "data.bin", md5=MD5)


def test_a_full_disk_is_one_message_and_no_other_server_is_asked(
    server: Server, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_transfer", full)
    with pytest.raises(UserError, match=r"file\.bin cannot be written: the disk is full .*continues the download"):
        fetch([f"{server.url}/file", f"{server.url}/file"], dest, md5=MD5)


def packed(archive: Path, *names: str) -> Path:
    """A tar.gz of small files."""
    with tarfile.open(archive, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return archive


def test_an_archive_of_one_folder_becomes_that_folder(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.tar.gz", "top/one", "top/below/two")
    assert unpack(archive, tmp_path / "set") == tmp_path / "set"
    assert (tmp_path / "set" / "one").read_text() == "top/one"
    assert (tmp_path / "set" / "below" / "two").read_text() == "top/below/two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "set"]


def test_an_archive_of_several_files_is_put_into_a_folder(tmp_path: Path) -> None:
    unpack(packed(tmp_path / "a.tar.gz", "one", "two"), tmp_path / "set")
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["one", "two"]


def test_a_folder_that_another_process_unpacked_meanwhile_is_kept(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").touch()
    unpack(packed(tmp_path / "a.tar.gz", "top/one"), tmp_path / "set")
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["mine"]


def zipped(archive: Path, *names: str) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for name in names:
            file.writestr(name, name)
    return archive


def test_a_zip_archive_is_unpacked_too(tmp_path: Path) -> None:
    unpack(zipped(tmp_path / "a.zip", "top/one", "top/below/two"), tmp_path / "set")
    assert (tmp_path / "set" / "below" / "two").read_text() == "top/below/two"


def test_a_zip_archive_writes_nothing_outside_of_its_folder(tmp_path: Path) -> None:
    unpack(zipped(tmp_path / "a.zip", "../../out", "/abs/out", "top/in"), tmp_path / "below" / "set")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "below"]
    assert sorted(path.name for path in (tmp_path / "below").iterdir()) == ["set"]
    assert not Path("/abs").exists()


def test_a_broken_zip_archive_leaves_nothing_and_is_named(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", "top/one", "top/two")
    content = bytearray(archive.read_bytes())
    content[archive.read_bytes().index(b"top/one", 40)] ^= 1  # a byte of the content: its checksum is wrong
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.zip cannot be unpacked .*; delete it and start again"):
        unpack(archive, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_published_md5_is_read_from_a_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "a.zip.md5"
    file.write_text("MD5 (a.zip) = 0E33842e24a9c977be4e0107933c0723\n")
    assert published_md5(file.as_uri()) == "0E33842e24a9c977be4e0107933c0723"
    file.write_text("<html>log in</html>")
    with pytest.raises(UserError, match=r"a\.zip\.md5 holds no md5; or: data=made"):
        published_md5(file.as_uri(), hint="data=made")
    with pytest.raises(UserError, match=r"nowhere.*; or: data=made"):
        published_md5((tmp_path / "nowhere").as_uri(), hint="data=made")


@pytest.mark.parametrize("kept", [0, 60], ids=["empty", "half"])
def test_a_broken_archive_leaves_nothing_and_is_named(tmp_path: Path, kept: int) -> None:
    archive = packed(tmp_path / "a.tar.gz", "top/one", "top/two")
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"a\.tar\.gz cannot be unpacked .*; delete it and start again"):
        unpack(archive, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_an_archive_that_reaches_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    with pytest.raises(UserError, match=r"outside the destination"):
        unpack(packed(tmp_path / "a.tar.gz", "../../../evil", "ok"), inner / "set")
    assert list(inner.iterdir()) == []
