"""Downloads from a server on this machine that drops, cuts, corrupts, and does not know what Range is."""

import contextlib
import hashlib
import http.server
import os
import re
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxcnn import data
from jaxcnn.data import download
from jaxcnn.data.sources import File, Source

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Does what the next of the server's plans says; the last one stays."""

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        plans, asked = self.server.plans, self.headers.get("Range")
        plan, value = plans.pop(0) if len(plans) > 1 else plans[0]
        self.server.asked.append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        if isinstance(plan, int):
            self.send_error(plan)
        elif plan == "slow":
            time.sleep(value)
        elif asked and plan != "no range" and start >= len(CONTENT):
            self.send_error(416)
        else:
            self.answer(plan, value, 0 if plan == "no range" else start)

    def answer(self, plan, value, start):
        body = value if plan == "other" else CONTENT[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if plan != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:value] if plan == "drop" else body)
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(1)


@pytest.fixture
def serve():
    """Starts a server with these plans; gives its address and the list of what `Range` it was asked for."""
    servers = []

    def start(*plans):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.plans, server.asked = [plan if isinstance(plan, tuple) else (plan, None) for plan in plans], []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/file.gz", server.asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def fetch(address, path, **options):
    known = {"size": len(CONTENT), "sha256": SHA256, "pauses": (0, 0, 0), "timeout": 5.0}
    download.download(address, path, **(known | options))


@pytest.mark.parametrize(
    ("plans", "asked"),
    [
        (["whole"], [None]),
        (["no length"], [None]),
        ([("drop", 4000), "whole"], [None, "bytes=4000-"]),
        ([("drop", 4000), ("drop", 1000), ("drop", 0), "whole"], [None, "bytes=4000-", "bytes=5000-", "bytes=5000-"]),
        ([("drop", 2000)], [None, *(f"bytes={start}-" for start in range(2000, 10240, 2000))]),
        ([("drop", 4000), "no range"], [None, "bytes=4000-"]),
        ([500, 503, ("drop", 100), "whole"], [None, None, None, "bytes=100-"]),
        ([("slow", 0.3), "whole"], [None, None]),
    ],
)
def test_a_download_goes_on_until_the_file_is_whole(tmp_path, serve, plans, asked):
    address, seen = serve(*plans)
    fetch(address, tmp_path / "file.gz", timeout=0.15)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["file.gz"]
    assert seen == asked


@pytest.mark.parametrize("earlier", [CONTENT[:3000], CONTENT, CONTENT + b"more", b"another file" * 50])
def test_what_came_before_is_kept_if_it_is_of_this_file(tmp_path, serve, earlier):
    (tmp_path / "file.gz.part").write_bytes(earlier)
    address, seen = serve("whole")
    fetch(address, tmp_path / "file.gz")
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["file.gz"]
    assert seen == {CONTENT[:3000]: ["bytes=3000-"], CONTENT: []}.get(earlier, [f"bytes={len(earlier)}-", None])


@pytest.mark.parametrize(
    ("plans", "message", "left"),
    [
        ([404], "expected a file, found: HTTP 404 Not Found", None),
        ([403], "expected a file, found: HTTP 403 Forbidden", None),
        ([500], "expected a file, found: HTTP 500 Internal Server Error", None),
        ([("drop", 0)], "expected a file, found: 0 of 10,240 bytes", 0),
        ([("drop", 50), ("drop", 0)], "expected a file, found: 50 of 10,240 bytes", 50),
        ([("slow", 0.2)], "expected a file, found: timed out", None),
        ([("other", CONTENT[:-1])], "expected 10,240 bytes, found 10,239 announced", None),
        ([("other", bytes(10240))], f"expected a file with the SHA-256 {SHA256}, found [0-9a-f]{{64}}", None),
    ],
)
def test_a_download_that_fails_says_why_and_leaves_what_helps(tmp_path, serve, plans, message, left):
    address, _ = serve(*plans)
    with pytest.raises(data.DataError, match=f"^{address}: {message}$"):
        fetch(address, tmp_path / "file.gz", timeout=0.1, pauses=(0, 0))
    part = tmp_path / "file.gz.part"
    assert (part.stat().st_size if part.exists() else None) == left
    assert not (tmp_path / "file.gz").exists()


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(data.DataError, match=r"^http://127.0.0.1:9/x: expected a file, found: Connection refused$"):
        fetch("http://127.0.0.1:9/x", tmp_path / "x", pauses=())


def test_a_file_of_unknown_size_ends_at_the_limit(tmp_path, serve, monkeypatch):
    monkeypatch.setattr(download, "_LIMIT", 1000)
    address, _ = serve("no length")
    with pytest.raises(data.DataError, match=r"expected at most 1,000 bytes, found [\d,]+$"):
        fetch(address, tmp_path / "file.gz", size=None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_ends_in_one_line_with_nothing_half_left(tmp_path, serve):
    address, _ = serve("whole")
    (tmp_path / "file.gz.part").symlink_to("/dev/full")
    message = f"^{tmp_path}/file.gz.part: expected a place that can be written, found: No space left on device$"
    with pytest.raises(data.DataError, match=message):
        fetch(address, tmp_path / "file.gz")
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written(tmp_path, serve):
    address, _ = serve("whole")
    (tmp_path / "file.gz").mkdir()
    (tmp_path / "file.gz" / "more").write_text("")
    with pytest.raises(data.DataError, match=r"expected a place that can be written, found: "):
        fetch(address, tmp_path / "file.gz")
    with pytest.raises(data.DataError, match=r"no/file.gz.part: expected a place .* found: No such file or directory$"):
        fetch(address, tmp_path / "no" / "file.gz")
    (tmp_path / "file").write_text("")
    source = Source("set", "", "set", "", (File("file.gz", len(CONTENT), SHA256, address),))
    with pytest.raises(
        data.DataError, match=f"^{tmp_path}/file.*: expected a place that can be written, found: Not a d"
    ):
        download.fetch(source, tmp_path / "file" / "set")


def test_an_interrupt_leaves_what_came(tmp_path, serve, monkeypatch):
    pieces = download._pieces

    def interrupted(answer):
        yield next(pieces(answer))[:5000]
        raise KeyboardInterrupt

    address, seen = serve("whole")
    with monkeypatch.context() as patch:
        patch.setattr(download, "_pieces", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(address, tmp_path / "file.gz")
    assert os.listdir(tmp_path) == ["file.gz.part"]
    fetch(address, tmp_path / "file.gz")
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert seen == [None, "bytes=5000-"]


def test_only_files_that_are_missing_or_damaged_are_fetched(tmp_path, serve):
    address, seen = serve("whole")
    source = Source("set", "", "set", "", tuple(File(name, len(CONTENT), SHA256, address) for name in "abc"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").write_bytes(CONTENT)
    (tmp_path / "set" / "b").write_bytes(CONTENT[:-1] + b"x")
    download.fetch(source, tmp_path / "set")
    assert seen == [None, None]
    assert {path.read_bytes() for path in (tmp_path / "set").iterdir()} == {CONTENT}


def test_a_terminal_gets_a_bar(tmp_path, serve, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    address, _ = serve("whole")
    fetch(address, tmp_path / "file.gz")
    assert "file.gz:" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    Path(tmp_path / "file.gz").unlink()
    fetch(address, tmp_path / "file.gz")
    assert capsys.readouterr().err == ""
