"""A lone caller that costs next to nothing: one connection, kept open, one call after another."""

import socket
import time

import msgspec

from bench import product, wrk

ANSWER_S_MAX = 60.0


class Call(msgspec.Struct, frozen=True):
    """One execution as its caller saw it; moments are Unix times in s."""

    execution_id: str
    """Empty where it was refused."""
    sent: float
    received: float
    status: int = 200

    @property
    def seconds(self) -> float:
        return self.received - self.sent


def calls(url: str, seconds: float, *, every_s: float = 0.0) -> list[Call]:
    """Calls for so long, the next after each answer, but not before *every_s* after the last."""
    host, _, port = url.removeprefix("http://").partition(":")
    whole = request(host)
    made = []
    with socket.create_connection((host, int(port)), timeout=ANSWER_S_MAX) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = time.time() + seconds
        while (sent := time.time()) < end:
            connection.sendall(whole)
            status, body = _answer(connection)
            received = time.time()
            made.append(Call(_execution_id(body), sent, received, status))
            if received < sent + every_s:
                time.sleep(sent + every_s - received)
    return made


def request(host: str) -> bytes:
    """One execution of the task that all measure with, as it is sent to *host*."""
    return (
        f"POST {product.EXECUTE} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(wrk.BODY)}\r\n\r\n"
    ).encode() + wrk.BODY


def _answer(connection: socket.socket) -> tuple[int, bytes]:
    """The status and the body; of ours the length is always told."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += _more(connection)
    return int(head.split(b" ", 2)[1]), body


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(65_536)
    if not part:
        raise RuntimeError("the connection was closed")
    return part


class _Answer(msgspec.Struct):
    execution_id: str = ""


_decode = msgspec.json.Decoder(_Answer).decode


def _execution_id(body: bytes) -> str:
    return _decode(body).execution_id
