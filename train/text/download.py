"""One file over http: the published one within a stated size and pace, or nothing.

The server is not trusted: each part of an answer may be slow in its own way, which no timeout of a socket's sees. So a watch
counts what has come, from the first connection on, and hangs up on less than

    1 KiB/s over 30 s

A user and password in the address are sent to its host alone, and are in no message.
"""

import base64
import hashlib
import shutil
import socket
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from commprof.commbench.errors import BadInput, CommprofError
from commprof.commbench.records.masking import masked
from commprof.commbench.records.rundir import replacing
from commprof.commbench.units import format_bytes

_MAX_BYTES = 256 * 2**20
_CHUNK_BYTES = 2**16
_WINDOW_S = 30.0
_LEAST_BYTES_PER_S = 2**10


def download(url: str, path: Path, md5: str) -> None:
    """Fetch a file of at most 256 MiB by http or https; `path` appears with the right MD5 sum or not at all.

    Raises BadInput for any other kind of URL and for a file with another sum, CommprofError where the transfer fails or takes
    too long.
    """
    if not url.startswith(("http://", "https://")):
        raise BadInput(
            f"data.url: {masked(url)} is not an http:// or https:// address; give one that serves AG News' CSV files"
        )
    by_hand = f"or put the file at {path} yourself"
    watch = _Watch()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as nameless:  # so that a download that is killed leaves nothing
            with watch:
                found = _stream(url, nameless, watch)
            if found != md5:
                raise BadInput(f"{masked(url)} has MD5 sum {found}, the published file has {md5}; try again, {by_hand}")
            nameless.seek(0)
            with replacing(path) as file:
                shutil.copyfileobj(nameless, file)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        reason = watch.complaint or _without_user(url, masked(str(error)))
        raise CommprofError(f"cannot download {masked(url)}: {reason}; check data.url and the network, {by_hand}") from None


class _Watch:
    """Hangs up when too little has come within a window, and says so in `complaint`."""

    def __init__(self) -> None:
        self.complaint = ""
        self._num_bytes = 0
        self._ended = threading.Event()
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        for connection in self._connections:
            connection.close()

    def connect(self, *arguments: Any, **options: Any) -> socket.socket:  # noqa: ANN401  those of socket.create_connection
        """Open a connection that can be hung up on, also while TLS is still being agreed on."""
        connection = socket.create_connection(*arguments, **options)
        self._connections.append(connection.dup())
        return connection

    def came(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes

    def _look(self) -> None:
        before = 0
        while not self._ended.wait(_WINDOW_S):
            if self._num_bytes - before < _LEAST_BYTES_PER_S * _WINDOW_S:
                self.complaint = f"less than {format_bytes(_LEAST_BYTES_PER_S)}/s came over {_WINDOW_S:g} s"
                for connection in self._connections:
                    with suppress(OSError):  # the other side was faster
                        connection.shutdown(socket.SHUT_RDWR)
                return
            before = self._num_bytes


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._open = partial(_connection, HTTPConnection, watch)

    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(self._open, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._open = partial(_connection, HTTPSConnection, watch)

    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(self._open, request)


def _connection(kind: Callable[..., Any], watch: _Watch, host: str, **options: Any) -> Any:  # noqa: ANN401  http.client's
    connection = kind(host, **options)
    connection._create_connection = watch.connect
    return connection


def _stream(url: str, file: IO[bytes], watch: _Watch) -> str:
    """Copy a URL's content into an open file and return its MD5 sum."""
    digest = hashlib.md5(usedforsecurity=False)
    num_bytes = 0
    opener = urllib.request.build_opener(_Http(watch), _Https(watch))
    with opener.open(_request(url), timeout=_WINDOW_S) as response:
        while chunk := response.read1(_CHUNK_BYTES):
            watch.came(len(chunk))
            num_bytes += len(chunk)
            if num_bytes > _MAX_BYTES:
                raise BadInput(f"{masked(url)} is larger than {format_bytes(_MAX_BYTES)}; data.url does not serve AG News")
            digest.update(chunk)
            file.write(chunk)
    if watch.complaint:
        raise TimeoutError(watch.complaint)  # a connection that was hung up on looks like one that has ended
    return digest.hexdigest()


def _request(url: str) -> urllib.request.Request:
    """Return the request for an address, its user and password in a header that no redirection takes along."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=host).geturl())  # noqa: S310  the caller checked the scheme
    if at:
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(unquote(user).encode()).decode()}")
    return request


def _without_user(url: str, text: str) -> str:
    """Take an address' user and password out of what a library says of it."""
    for word in filter(None, urlsplit(url).netloc.rpartition("@")[0].split(":")):
        text = text.replace(word, "***")
    return text
