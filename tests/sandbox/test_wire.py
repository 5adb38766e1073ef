"""The cell's own msgpack and the host's agree."""

import msgspec
import pytest

from loopai.sandbox import frames
from loopai.sandbox.inside import wire


@pytest.mark.parametrize("size", [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536])
def test_what_the_cell_writes_the_host_reads(size):
    assert msgspec.msgpack.decode(wire.binary(b"x" * size)) == b"x" * size
    assert msgspec.msgpack.decode(wire.text("x" * size)) == "x" * size
    assert msgspec.msgpack.decode(wire.integer(size)) == size
    if size < 65_536:
        assert msgspec.msgpack.decode(wire.array(size) + b"\x01" * size) == [1] * size


@pytest.mark.parametrize("size", [0, 1, 15, 16, 255, 256, 65_536])
def test_what_the_host_writes_the_cell_reads(size):
    count = min(size, 256)
    frame = frames.encode_run(7, [b"x" * size] * count, [1.5] * count)
    length, nonce = wire.HEADER.unpack_from(frame)
    assert (length, nonce) == (len(frame) - wire.HEADER.size, 7)
    request = wire.decode(memoryview(frame)[wire.HEADER.size :])
    assert request == [wire.RUN, [b"x" * size] * count, [1.5] * count]


def test_page_and_header_are_alike_on_both_sides():
    assert frames.PAGE.format == wire.PAGE.format
    assert frames.HEADER.format == wire.HEADER.format


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x90\x90",
        b"\x91\xc0",
        b"\x91\x90",
        b"\x91\x92\x06\x01",
        b"\x91\x92\x00\xff",
        b"\xdd\xff",
    ],
)
def test_garbage_is_tampering(payload):
    with pytest.raises(frames.TamperError):
        frames.decode(memoryview(payload), text_bytes_max=1_000)
