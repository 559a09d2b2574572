"""A TCP stream from each rank of the testbed's first host to its like on the second, with nothing of torch in it.

    commprof testbed exec --hosts 2 -- python -m benchmarks.testbed_stream

A receiver writes the payload per second of the two seconds in the middle, a sender the median time of a byte there and back.
"""

import json
import os
import socket
import sys
import time
from statistics import median

from commprof.testbed.fabric import rank_address
from commprof.testbed.network import read_fabric

_PORT = 5000
_PINGS = 40
_STREAM_S, _FROM_S, _UNTIL_S = 4.0, 1.0, 3.0
_CHUNK = 2**18
_TIMEOUT_S = 30.0


def send(address: tuple[str, int]) -> dict[str, float]:
    """Send what the line takes; return the round trip of a byte before, s."""
    with _connected(address) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = [_round_trip_s(peer) for _ in range(_PINGS)]
        end_s, chunk = time.monotonic() + _STREAM_S, bytes(_CHUNK)
        while time.monotonic() < end_s:
            peer.sendall(chunk)
    return {"round_trip_s": median(trips)}


def receive(address: tuple[str, int]) -> dict[str, float]:
    """Answer the single bytes, then take the stream; return its payload, B/s."""
    with socket.create_server(address) as server:
        server.settimeout(_TIMEOUT_S)
        peer, _ = server.accept()
    with peer:
        peer.settimeout(_TIMEOUT_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_PINGS):
            peer.sendall(peer.recv(1))
        start_s = time.monotonic()
        counted, first_s, last_s = 0, 0.0, 0.0
        while chunk := peer.recv(_CHUNK):
            now_s = time.monotonic()
            if now_s - start_s < _FROM_S:
                first_s = now_s
            elif now_s - start_s < _UNTIL_S:
                counted, last_s = counted + len(chunk), now_s
    return {"bytes_per_s": counted / (last_s - first_s)}


def _connected(address: tuple[str, int]) -> socket.socket:
    deadline_s = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            return socket.create_connection(address, timeout=_TIMEOUT_S)
        except ConnectionRefusedError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)  # the receiver is still being started


def _round_trip_s(peer: socket.socket) -> float:
    start_s = time.perf_counter()
    peer.sendall(b".")
    peer.recv(1)
    return time.perf_counter() - start_s


def main() -> None:
    local_rank = int(os.environ["LOCAL_RANK"])
    address = rank_address(read_fabric(), 1, local_rank), _PORT + local_rank
    found = (send if os.environ["GROUP_RANK"] == "0" else receive)(address)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
