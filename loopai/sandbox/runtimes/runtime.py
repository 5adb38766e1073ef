"""What a runtime is: which files its cells get, and what their init is told."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streams import messages

ROOT: Final = "/cell"
"""Where our own files lie inside. Below it is the module path that they have outside as well."""
INSIDE: Final = f"{ROOT}/loopai/sandbox/inside"


class MissingError(Exception):
    """A piece of the sandbox is not there. The message says which and how to get it."""


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """What a cell needs to run init, and the executors of one runtime behind it."""

    name: messages.Runtime
    interpreter: tuple[str, ...]
    """Python, which runs init in every cell, and its flags."""
    files: Mapping[str, str]
    """By path inside: path outside. All read-only."""
    hidden: tuple[str, ...]
    """Folders below them that are empty inside."""
    links: Mapping[str, str] = {}
    environment: Mapping[str, str]
    forked: bool
    """Whether an executor is a fork of init and shares its memory. Others are made sparingly, and
    asked to give back what they can when they have nothing to do (ADR 0013)."""
    config: Mapping[str, Any]  # Any: told to init as JSON
    """What `inside/<name>.py` needs to know, beside the limits."""
