"""JSON given on the command line: as text, as `@file`, as a file's name, or as `-` for stdin."""

import os
import sys
from pathlib import Path
from typing import Final

import msgspec

from loopai.cli import failure

TOO_DEEP: Final = "the JSON is nested too deeply"


def text(argument: str) -> bytes:
    """What *argument* stands for: `-` is stdin, `@file` that file, all else itself."""
    if argument == "-":
        return sys.stdin.buffer.read()
    if argument.startswith("@"):
        return read(Path(argument[1:]))
    return os.fsencode(argument)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise failure.Failure(f"{path}: {error.strerror}") from error


def utf8(argument: str, origin: str) -> str:
    """*argument* itself; a Failure that names *origin* if a shell handed over other bytes."""
    try:
        os.fsencode(argument).decode()
    except UnicodeDecodeError as error:
        raise failure.Failure(f"{origin} is not UTF-8: {error.reason}") from error
    return argument


def is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    except RecursionError as error:
        raise failure.Failure(TOO_DEEP) from error
    return True


def json(body: bytes, origin: str) -> msgspec.Raw:
    """*body* if it is JSON; else a Failure that names *origin*."""
    try:
        msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise failure.Failure(f"{origin} is not JSON: {error}") from error
    except RecursionError as error:
        raise failure.Failure(f"{origin}: {TOO_DEEP}") from error
    return msgspec.Raw(body)


def json_or_file(argument: str, origin: str) -> msgspec.Raw:
    """*argument* as JSON text if it begins like an object, else as the name of a file of JSON."""
    if argument.lstrip().startswith("{"):
        return json(os.fsencode(argument), origin)
    path = Path(argument.removeprefix("@"))
    return json(read(path), str(path))
