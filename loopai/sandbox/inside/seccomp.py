"""The system calls that an executor may make, as a classic BPF program made in pure Python.

An allowlist: everything else fails with EPERM, a foreign architecture or x32 kills. Layout of
seccomp_data and return values: linux/seccomp.h, linux/audit.h.
"""

import ctypes
import errno
import struct

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None where the architecture never had the call. No socket call of any
# kind: the data socket is read with readv and written with write.
_ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "readv": (19, 65),
    "write": (1, 64),
    "setitimer": (38, 103),
    "clock_gettime": (228, 113),
    "brk": (12, 214),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "rt_sigreturn": (15, 139),
    "rt_sigprocmask": (14, 135),
    "rt_sigaction": (13, 134),
    "sigaltstack": (131, 132),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "getrandom": (318, 278),
    "gettimeofday": (96, 169),
    "clock_getres": (229, 114),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    # Files: Landlock leaves the standard library to read and /tmp to write.
    "read": (0, 63),
    "pread64": (17, 67),
    "writev": (20, 66),
    "lseek": (8, 62),
    "close": (3, 57),
    "openat": (257, 56),
    "open": (2, None),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "stat": (4, None),
    "lstat": (6, None),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "ftruncate": (77, 46),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
}
# Allowed without PROT_EXEC in their third argument.
_MAPPING = {"mmap": (9, 222), "mprotect": (10, 226)}

_PROT_EXEC = 4
_X32_BIT = 0x4000_0000
_NUMBER_AT, _ARCH_AT, _THIRD_ARGUMENT_AT = 0, 4, 32

_LOAD, _RETURN = 0x20, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x35, 0x45
_ALLOW, _KILL, _EPERM = 0x7FFF_0000, 0x8000_0000, 0x0005_0000 | errno.EPERM

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


class UnsupportedError(Exception):
    """The machine is of an architecture that has no list of system calls here."""


def compile_filter(machine: str) -> bytes:
    """Return the filter for *machine*, as `os.uname().machine` names it."""
    if machine not in _ARCH:
        raise UnsupportedError(f"no seccomp filter for {machine}")
    column = 0 if machine == "x86_64" else 1
    calls = [numbers[column] for numbers in _ALLOWED.values()]
    allowed = [number for number in calls if number is not None]
    mapping = [numbers[column] for numbers in _MAPPING.values()]

    head = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_IF_EQUAL, 1, 0, _ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if machine == "x86_64":
        head += [(_IF_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL)]
    # Jumps are relative and at most 255 long: `left` counts the tests that follow each.
    tests = []
    left = len(mapping) + len(allowed)
    for number in mapping:
        left -= 1
        tests.append((_IF_EQUAL, left + 2, 0, number))
    for number in allowed:
        left -= 1
        tests.append((_IF_EQUAL, left + 1, 0, number))
    tail = [
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _THIRD_ARGUMENT_AT),
        (_IF_ANY_BIT, 0, 1, _PROT_EXEC),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in head + tests + tail)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))


def install(libc: ctypes.CDLL, lines: bytes) -> None:
    """Put this process under the filter *lines* for good; needs no_new_privs."""
    program = _Program(len(lines) // 8, lines)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp filter refused")
