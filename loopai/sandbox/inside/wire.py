"""The frames between host and cell, on the cell's side: the subset of msgpack that they use."""
# ruff: noqa: PLR2004 (the tags of msgpack are its specification's numbers)

import struct

HEADER = struct.Struct("<IQ")
"""Bytes of payload, nonce of the batch."""
PAGE = struct.Struct("<Qqd")
"""The progress page: nonce of the batch, index of its running item, its start (monotonic, s)."""

LOAD = 0
RUN = 1

SUCCESS, ERROR, TIMEOUT, OUT_OF_MEMORY, OUTPUT_TOO_LARGE, INVALID_RESULT = range(6)

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_F64 = struct.Struct(">d")
_B16 = struct.Struct(">BH")
_B32 = struct.Struct(">BI")
_B64 = struct.Struct(">BQ")


class WireError(Exception):
    """The bytes are not of the subset that we write."""


def integer(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    if value < 0x1_0000_0000:
        return _B32.pack(0xCE, value)
    return _B64.pack(0xCF, value)


def binary(data: bytes) -> bytes:
    size = len(data)
    if size < 0x100:
        return bytes((0xC4, size)) + data
    if size < 0x1_0000:
        return _B16.pack(0xC5, size) + data
    return _B32.pack(0xC6, size) + data


def text(value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    size = len(data)
    if size < 0x20:
        return bytes((0xA0 | size,)) + data
    if size < 0x1_0000:
        return _B16.pack(0xDA, size) + data
    return _B32.pack(0xDB, size) + data


def array(size: int) -> bytes:
    """Header of an array; its elements follow."""
    return bytes((0x90 | size,)) if size < 0x10 else _B16.pack(0xDC, size)


def decode(data: memoryview) -> object:
    """Decode one value that must fill *data*."""
    value, end = _decode(data, 0)
    if end != len(data):
        raise WireError("bytes after the value")
    return value


def _decode(data: memoryview, at: int) -> tuple[object, int]:  # noqa: C901, PLR0911 (one branch a type)
    tag = data[at]
    at += 1
    if tag == 0xC4:
        end = at + 1 + data[at]
        return bytes(data[at + 1 : end]), end
    if tag == 0xCB:
        return _F64.unpack_from(data, at)[0], at + 8
    if tag < 0x80:
        return tag, at
    if tag == 0xC5:
        end = at + 2 + _U16.unpack_from(data, at)[0]
        return bytes(data[at + 2 : end]), end
    if tag == 0xC6:
        end = at + 4 + _U32.unpack_from(data, at)[0]
        return bytes(data[at + 4 : end]), end
    if tag & 0xF0 == 0x90:
        return _elements(data, at, tag & 0x0F)
    if tag == 0xDC:
        return _elements(data, at + 2, _U16.unpack_from(data, at)[0])
    if tag & 0xE0 == 0xA0:
        end = at + (tag & 0x1F)
        return str(data[at:end], "utf-8"), end
    if tag == 0xCC:
        return data[at], at + 1
    if tag == 0xCD:
        return _U16.unpack_from(data, at)[0], at + 2
    if tag == 0xCE:
        return _U32.unpack_from(data, at)[0], at + 4
    raise WireError(f"type {tag:#x} is not of the subset")


def _elements(data: memoryview, at: int, size: int) -> tuple[list[object], int]:
    values: list[object] = []
    if size and data[at] == 0xCB:
        # The seconds of a batch, all at once: 2 µs for 64, one by one 50.
        end = at + 9 * size
        if set(data[at:end:9]) != {0xCB}:
            raise WireError("a list of numbers and something else")
        values += struct.unpack_from(">" + "xd" * size, data, at)
        return values, end
    for _ in range(size):
        if data[at] == 0xC4:
            # A short input, unnested: half the time of a call.
            at += 2
            end = at + data[at - 1]
            values.append(bytes(data[at:end]))
            at = end
        else:
            value, at = _decode(data, at)
            values.append(value)
    return values, at
