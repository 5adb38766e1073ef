"""Posts to real servers, by resolvers that lie: where a connection ends is what was checked."""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpcore
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from loopai.settings import Settings
from loopai.webhooks import transport
from tests.receiver import Receiver
from tests.wait import until

LOOPBACK = Settings(webhook_private="127.0.0.0/8").webhook_networks


class Liar:
    """A resolver that has another answer each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as opened:
        yield opened


async def post(poster: transport.Poster, url: str) -> transport.Answer:
    return await poster.post(httpx.URL(url), {"content-type": "application/json"}, b"{}")


async def test_a_connection_goes_to_the_address_that_was_checked(receiver: Receiver) -> None:
    """DNS rebinding: a name is asked for once, and its next answer counts for nothing."""
    lying = Liar(["127.0.0.2"], ["127.0.0.1"])
    allowed = (ipaddress.ip_network("127.0.0.2/32"),)
    async with transport.Poster(allowed, resolve=lying) as poster:
        with pytest.raises(httpcore.ConnectError):
            await post(poster, f"http://rebind.example:{receiver.port}/")
        assert lying.asked == ["rebind.example"]
        with pytest.raises(transport.Refused, match=r"127\.0\.0\.1 is a loopback address"):
            await post(poster, f"http://rebind.example:{receiver.port}/")
    assert receiver.posts == []


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ["127.0.0.2", "10.0.0.1"],
        ["127.0.0.2", "::1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%1"],
        ["169.254.169.254"],
        ["64:ff9b::7f00:1"],
    ],
)
async def test_one_address_that_is_refused_refuses_the_name(
    receiver: Receiver, answer: list[str]
) -> None:
    """Which of its addresses is taken is not for the name's owner to play with."""
    allowed = (ipaddress.ip_network("127.0.0.2/32"),)
    async with transport.Poster(allowed, resolve=Liar(answer)) as poster:
        with pytest.raises(transport.Refused, match="may not be called"):
            await post(poster, f"http://name.example:{receiver.port}/")
    assert receiver.posts == []


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "0"])
async def test_this_machine_is_refused_however_it_is_called(receiver: Receiver, host: str) -> None:
    """By the system's resolver, which reads odd spellings of addresses as what they are."""
    async with transport.Poster() as poster:
        with pytest.raises(transport.Refused):
            await post(poster, f"http://{host}:{receiver.port}/")
    assert receiver.posts == []


async def test_the_name_stays_in_the_host_header(receiver: Receiver) -> None:
    """Only the connection goes to an address."""
    async with transport.Poster(LOOPBACK, resolve=Liar(["127.0.0.1"])) as poster:
        answer = await post(poster, f"http://name.example:{receiver.port}/hook")
    assert answer.status == 204
    assert receiver.posts[0].headers["host"] == f"name.example:{receiver.port}"
    assert receiver.posts[0].headers["accept-encoding"] == "identity"


async def test_the_name_stays_in_tls(tmp_path: Path) -> None:
    """The server is asked for by its name, and its certificate must be one for it."""
    named: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path))
    context.sni_callback = lambda _socket, name, _context: named.append(name)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with transport.Poster(LOOPBACK, resolve=Liar(["127.0.0.1"])) as poster:
        with pytest.raises(httpcore.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await post(poster, f"https://name.example:{port}/")
    server.close()
    assert named == ["name.example"]


async def test_a_redirect_is_an_answer(receiver: Receiver) -> None:
    """Nobody leads a post elsewhere."""
    receiver.answer = lambda _: (
        b"HTTP/1.1 307 x\r\nlocation: http://127.0.0.1:%d/else\r\ncontent-length: 0\r\n\r\n"
        % receiver.port
    )
    async with transport.Poster(LOOPBACK) as poster:
        assert (await post(poster, f"{receiver.url}/hook")).status == 307
    assert [each.path for each in receiver.posts] == ["/hook"]


async def test_of_an_endless_answer_only_the_beginning_is_read(receiver: Receiver) -> None:
    """A receiver that says it sends a terabyte costs four kilobytes."""
    receiver.answer = lambda _: (
        b"HTTP/1.1 200 x\r\ncontent-length: 1000000000000\r\n\r\n" + b"a" * 100_000
    )
    async with transport.Poster(LOOPBACK) as poster:
        answer = await post(poster, receiver.url)
        # And the connection is not used again.
        receiver.answer = lambda _: 204
        assert (await post(poster, receiver.url)).status == 204
    assert answer.body == b"a" * transport.RESPONSE_BYTES_MAX


async def test_a_post_takes_no_longer_than_it_may(receiver: Receiver) -> None:
    """Not even from a server that writes a byte now and then."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 x\r\ncontent-length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"a")
            try:
                await writer.drain()
                await asyncio.wait_for(reader.read(1), 0.05)
            except (TimeoutError, OSError):
                pass
            if reader.at_eof():
                break
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    begun = time.monotonic()
    async with transport.Poster(LOOPBACK, post_s=0.5) as poster:
        with pytest.raises(TimeoutError):
            await post(poster, f"http://127.0.0.1:{port}/")
    assert 0.4 < time.monotonic() - begun < 5
    server.close()


async def test_a_server_that_takes_nothing_is_given_up(receiver: Receiver) -> None:
    """A port that accepts and then is silent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with transport.Poster(LOOPBACK, post_s=0.3) as poster:
            with pytest.raises((TimeoutError, httpcore.TimeoutException)):
                await post(poster, f"http://127.0.0.1:{listener.getsockname()[1]}/")


async def test_a_silent_name_server_holds_a_post_no_longer_than_it_may() -> None:
    """To ask for a name is part of the time that a post has."""

    async def silent(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with transport.Poster(LOOPBACK, resolve=silent, post_s=0.2) as poster:
        with pytest.raises(TimeoutError):
            await post(poster, "http://name.example/")


async def test_a_name_that_nobody_knows_is_no_answer() -> None:
    """The system says so; `.invalid` never exists (RFC 6761)."""
    async with transport.Poster(LOOPBACK) as poster:
        with pytest.raises(httpcore.ConnectError, match="cannot be resolved"):
            await post(poster, "http://name.invalid/")


async def test_rubbish_is_no_answer(receiver: Receiver) -> None:
    """A server of another protocol, and headers without end."""
    async with transport.Poster(LOOPBACK, post_s=2) as poster:
        for answer in (b"220 mail.example ESMTP\r\n", b"HTTP/1.1 200 x\r\n" + b"a: b\r\n" * 50_000):
            receiver.answer = lambda _, answer=answer: answer + b"connection: close\r\n\r\n"
            with pytest.raises((httpcore.ProtocolError, httpcore.NetworkError)):
                await post(poster, receiver.url)
    await until(lambda: receiver.under_way == 0)


def _certificate(folder: Path) -> Path:
    """A certificate for `name.example` that nobody has signed but itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "name.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("name.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "name.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path
