"""AG News over http: the published files or nothing."""

import hashlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from commprof.commbench.errors import BadInput, CommprofError
from commprof.train.config.types import DataConfig
from commprof.train.text import articles
from commprof.train.text import download as downloading
from commprof.train.text.dataset import prepare_data
from commprof.train.text.download import download
from tests.ag_news import EVAL_CSV, MODEL, TRAIN_CSV, digest


@dataclass
class Server:
    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, server: Server, *arguments: object) -> None:
        self.state = server
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self.state.requests.append(self.path)
        self.state.headers.append(dict(self.headers))
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "/train.csv")
            self.end_headers()
            return
        if self.path.startswith("/to-a-file"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
            return
        content = self.state.files.get(self.path.removeprefix("/cut"))
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path.startswith("/cut") else content)

    def log_message(self, *_: object) -> None:
        """A test's server says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    state = Server(url="")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, state)) as listener:
        state.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        yield state
        listener.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def test_downloads_a_file_with_the_right_sum(server: Server, tmp_path: Path) -> None:
    server.files["/train.csv"] = TRAIN_CSV * 5000
    download(f"{server.url}/train.csv", tmp_path / "new/train.csv", md5(TRAIN_CSV * 5000))
    assert files_below(tmp_path) == [tmp_path / "new/train.csv"]
    assert (tmp_path / "new/train.csv").read_bytes() == TRAIN_CSV * 5000


def test_missing_files_are_downloaded_once_when_asked_for(
    server: Server, data: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files |= {"/ag/train.csv": TRAIN_CSV, "/ag/test.csv": EVAL_CSV}
    sums = {"train_csv": ("train.csv", md5(TRAIN_CSV)), "eval_csv": ("test.csv", md5(EVAL_CSV))}
    monkeypatch.setattr(articles, "_PUBLISHED", sums)
    expected = digest(prepare_data(data, MODEL))
    for path in (data.train_csv, data.eval_csv):
        Path(path).unlink()
    wanted = replace(data, download=True, url=f"{server.url}/ag/")
    assert digest(prepare_data(wanted, MODEL)) == expected
    assert digest(prepare_data(wanted, MODEL)) == expected
    assert server.requests == ["/ag/train.csv", "/ag/test.csv"]


def test_the_published_sums_are_those_of_ag_news(server: Server, data: DataConfig) -> None:
    server.files["/train.csv"] = TRAIN_CSV
    Path(data.train_csv).unlink()
    with pytest.raises(BadInput, match="the published file has b1a00f826fdfbd249f79597b59e1dc12; try again"):
        prepare_data(replace(data, download=True, url=server.url), MODEL)
    assert not Path(data.train_csv).exists()
    server.files["/test.csv"] = EVAL_CSV
    Path(data.train_csv).write_bytes(TRAIN_CSV)
    Path(data.eval_csv).unlink()
    with pytest.raises(BadInput, match="the published file has d52ea96a97a2d943681189a97654912d; try again"):
        prepare_data(replace(data, download=True, url=server.url), MODEL)


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [
        ("/cut/train.csv", BadInput, rf"has MD5 sum \w+, the published file has {md5(TRAIN_CSV)}; try again"),
        ("/other.csv", BadInput, rf"has MD5 sum {md5(EVAL_CSV)}, the published"),
        ("/none.csv", CommprofError, "HTTP Error 404: Not Found; check data.url"),
        ("/to-a-file", CommprofError, "check data.url"),
        ("/large.csv", BadInput, "is larger than 1000 B"),
        ("/caf\u00e9.csv", CommprofError, "check data.url"),
        (":x/train.csv", CommprofError, "check data.url"),
    ],
)
def test_a_download_that_fails_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: type[CommprofError], reason: str
) -> None:
    server.files |= {"/train.csv": TRAIN_CSV, "/other.csv": EVAL_CSV, "/large.csv": b"x" * 1001}
    monkeypatch.setattr(downloading, "_MAX_BYTES", 1000)
    with pytest.raises(CommprofError, match=reason) as caught:
        download(server.url + path, tmp_path / "train.csv", md5(TRAIN_CSV))
    assert type(caught.value) is kind
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "train.csv") in str(caught.value) or kind is BadInput
    assert files_below(tmp_path) == []


SLOW = {
    "nothing": b"",
    "the status, a byte at a time": b"H",
    "headers without end": b"HTTP/1.1 200 OK\r\nX: y\r\n",
    "a byte at a time": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    "chunks of a byte": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("first", SLOW.values(), ids=SLOW)
def test_a_server_that_is_slow_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bytes, scheme: str
) -> None:
    """It sends something, then a byte now and then, so that no single wait is long: also while TLS is agreed on."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloading, "_WINDOW_S", 0.5)
    ended = threading.Event()

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(first)
            while not ended.wait(0.02):
                connection.sendall(b"1\r\nx\r\n" if b"chunked" in first else b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/train.csv"
        try:
            with pytest.raises(CommprofError, match=r"cannot download .*(less than 1 KiB/s came over 0\.5 s|SSL)"):
                download(url, tmp_path / "train.csv", md5(TRAIN_CSV))
        finally:
            ended.set()
            thread.join()
    assert files_below(tmp_path) == []


def test_a_user_goes_to_the_host_that_was_named_and_to_no_other(server: Server, tmp_path: Path) -> None:
    server.files["/train.csv"] = TRAIN_CSV
    url = server.url.replace("//", "//me:p%40ss@")
    download(f"{url}/away", tmp_path / "train.csv", md5(TRAIN_CSV))
    assert [own.get("Authorization") for own in server.headers] == ["Basic bWU6cEBzcw==", None]


@pytest.mark.parametrize("address", ["me:SECRET@127.0.0.1:1", "SECRET@127.0.0.1:1", "me:SECRET@[::1]:x", "me:SECRET@ho st"])
def test_no_message_shows_a_password(tmp_path: Path, address: str) -> None:
    with pytest.raises(CommprofError, match="cannot download") as caught:
        download(f"http://{address}/train.csv", tmp_path / "train.csv", md5(b""))
    assert "SECRET" not in str(caught.value)


@pytest.mark.processes
def test_a_download_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    fetch = "import sys; from pathlib import Path; from commprof.train.text.download import download; "
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/train.csv"
        words = [sys.executable, "-c", f"{fetch}download({url!r}, Path('train.csv'), '')"]
        with subprocess.Popen(words, cwd=tmp_path, env={**os.environ, "no_proxy": "*"}) as fetching:
            caller, _ = listening.accept()
            with caller:
                caller.recv(4096)
                caller.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 2**21
                )  # taken, so it is on its way
                fetching.send_signal(signal.SIGKILL)
    assert files_below(tmp_path) == []


def test_a_failed_download_keeps_the_file_that_was_there(server: Server, tmp_path: Path) -> None:
    server.files["/train.csv"] = TRAIN_CSV
    (tmp_path / "train.csv").write_bytes(b"old")
    with pytest.raises(BadInput, match="MD5"):
        download(f"{server.url}/train.csv", tmp_path / "train.csv", md5(EVAL_CSV))
    assert (tmp_path / "train.csv").read_bytes() == b"old"


def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/train.csv"
    with pytest.raises(CommprofError, match=rf"cannot download {url}: .*refused.*; check data\.url and the network"):
        download(url, tmp_path / "train.csv", md5(TRAIN_CSV))
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/train.csv", "data:,x", "/etc/hostname", ""])
def test_only_http_is_fetched(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadInput, match=r"data\.url: .* is not an http:// or https:// address"):
        download(url, tmp_path / "train.csv", md5(b""))
    assert files_below(tmp_path) == []
