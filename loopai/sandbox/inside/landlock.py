"""Landlock through ctypes: what a process may reach, by the ABI level that the kernel has.

Layouts, bits and the level that brought each: linux/landlock.h. The three system calls have the
same numbers everywhere.
"""
# ruff: noqa: PLR2004 (ABI levels)

import ctypes
import os
import struct

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14

READ = _READ_FILE | _READ_DIR
WRITE = _WRITE_FILE | _TRUNCATE
EXECUTE = READ | _EXECUTE
_ANY_RIGHTS = -1
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

_NET_TCP = 0b11
_SCOPE_ABSTRACT_UNIX_AND_SIGNALS = 0b11


def abi(libc: ctypes.CDLL) -> int:
    """Return the kernel's ABI level, 0 where Landlock is missing or switched off."""
    level: int = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    return max(level, 0)


def _handled(level: int) -> int:
    """Every file-system right that this level knows: what is handled and not granted is denied."""
    last = 12 + (level >= 2) + (level >= 3) + (level >= 5)
    return (1 << (last + 1)) - 1


def ruleset(libc: ctypes.CDLL, level: int, grants: dict[str, int]) -> int:
    """Return a ruleset fd that grants rights beneath the paths of *grants* and nothing else."""
    handled = _handled(level)
    fields = [handled]
    if level >= 4:
        fields.append(_NET_TCP)
    if level >= 6:
        fields.append(_SCOPE_ABSTRACT_UNIX_AND_SIGNALS)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    rules: int = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        raise OSError(ctypes.get_errno(), "landlock ruleset refused")
    for path, rights in grants.items():
        # O_PATH of a file takes file rights only; the kernel refuses directory rights on it.
        kind = _ANY_RIGHTS if os.path.isdir(path) else _FILE_RIGHTS  # noqa: PTH112 (no pathlib here)
        granted = rights & handled & kind
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rule = struct.pack("=Qi", granted, fd)
            if libc.syscall(_ADD_RULE, rules, _RULE_PATH_BENEATH, rule, 0):
                raise OSError(ctypes.get_errno(), f"landlock rule refused for {path}")
        finally:
            os.close(fd)
    return rules


def restrict(libc: ctypes.CDLL, rules: int) -> None:
    """Put this process under *rules* for good; needs no_new_privs."""
    if libc.syscall(_RESTRICT_SELF, rules, 0):
        raise OSError(ctypes.get_errno(), "landlock restriction refused")
