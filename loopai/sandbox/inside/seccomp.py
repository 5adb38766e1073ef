"""The system calls that a process of a cell may make, as classic BPF made in pure Python.

Allowlists: everything else fails with EPERM, a foreign architecture or x32 kills. Layout of
seccomp_data and return values: linux/seccomp.h, linux/audit.h.
"""

import ctypes
import errno
import struct

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None where the architecture never had the call.
Calls = dict[str, tuple[int | None, int | None]]

_ANY: Calls = {
    "read": (0, 63),
    "write": (1, 64),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "restart_syscall": (219, 128),
    "futex": (202, 98),
    "brk": (12, 214),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "rt_sigreturn": (15, 139),
    "rt_sigprocmask": (14, 135),
    "rt_sigaction": (13, 134),
    "sigaltstack": (131, 132),
    "getrandom": (318, 278),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    # Files that are there, to read: Landlock leaves the standard library and two devices.
    "pread64": (17, 67),
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
}

PYTHON: Calls = _ANY | {
    # No socket call of any kind: the data socket is read with readv and written with write.
    "readv": (19, 65),
    "writev": (20, 66),
    "setitimer": (38, 103),
}
"""Of an executor that holds a program in Python."""

DENO: Calls = _ANY | {
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "epoll_ctl": (233, 21),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    # Its thread for signals waits at a pair of sockets. Descriptors travel by recvmsg only.
    "recvfrom": (45, 207),
}
"""Of one that holds a program in JavaScript. No further thread, and no code mapped from files."""

DENO_START: Calls = DENO | {
    # Deno's own start, before it has the program: it is executed, makes its threads and its event
    # loop, says how its file is mapped, and puts itself under the list above.
    "execve": (59, 221),
    "arch_prctl": (158, None),
    "set_tid_address": (218, 96),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "prctl": (157, 167),
    "seccomp": (317, 277),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "poll": (7, None),
    "ppoll": (271, 73),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "eventfd2": (290, 19),
    "epoll_create1": (291, 20),
    "pkey_alloc": (330, 289),
    "userfaultfd": (323, 282),
}

# Decided by an argument. Without PROT_EXEC in the third of these two …
_MAPPING: Calls = {"mmap": (9, 222), "mprotect": (10, 226)}
# … as a thread of this process, and between two ends of it.
_THREAD: Calls = {"clone": (56, 220)}
_LOCAL_PAIR: Calls = {"socketpair": (53, 199)}
# Of the process that asks: the C library wants to know how large its stack may grow.
_OWN_LIMITS: Calls = {"prlimit64": (302, 261)}
# Its flags lie in memory, where no filter can look: the C library then takes clone instead.
_THREAD_BY_STRUCT: Calls = {"clone3": (435, 435)}

_PROT_EXEC = 4
_CLONE_THREAD = 0x0001_0000
_AF_UNIX = 1
_X32_BIT = 0x4000_0000
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT, _THIRD_ARGUMENT_AT = 0, 4, 16, 32

_LOAD, _RETURN = 0x20, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x35, 0x45
_ALLOW, _KILL, _ERROR = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_EPERM, _ENOSYS = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

_Line = tuple[int, int, int, int]


class UnsupportedError(Exception):
    """The machine is of an architecture that has no list of system calls here."""


def compile_filter(machine: str, calls: Calls, *, starting: bool = False) -> bytes:
    """Return the filter for *calls* on *machine*, as `os.uname().machine` names it.

    While *starting* a process may also map code and make threads of its own.
    """
    if machine not in _ARCH:
        raise UnsupportedError(f"no seccomp filter for {machine}")
    lines: list[_Line] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_IF_EQUAL, 1, 0, _ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if machine == "x86_64":
        lines += [(_IF_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL)]
    if starting:
        calls = calls | _MAPPING
        lines += _deciding(machine, _THREAD, (_IF_ANY_BIT, _CLONE_THREAD), _FIRST_ARGUMENT_AT)
        lines += _deciding(machine, _LOCAL_PAIR, (_IF_EQUAL, _AF_UNIX), _FIRST_ARGUMENT_AT)
        lines += _answering(machine, _THREAD_BY_STRUCT, _ENOSYS)
    else:
        refuse = (_IF_ANY_BIT, _PROT_EXEC)
        lines += _deciding(machine, _MAPPING, refuse, _THIRD_ARGUMENT_AT, if_so=_EPERM)
    lines += _deciding(machine, _OWN_LIMITS, (_IF_EQUAL, 0), _FIRST_ARGUMENT_AT)
    lines += _answering(machine, calls, _ALLOW)
    lines.append((_RETURN, 0, 0, _EPERM))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _numbers(machine: str, calls: Calls) -> list[int]:
    column = 0 if machine == "x86_64" else 1
    numbers = [each[column] for each in calls.values()]
    return [number for number in numbers if number is not None]


def _deciding(
    machine: str, calls: Calls, test: tuple[int, int], argument_at: int, *, if_so: int = _ALLOW
) -> list[_Line]:
    """*calls* that get *if_so* where *test* holds for an argument, else the other answer."""
    if_not = _EPERM if if_so == _ALLOW else _ALLOW
    code, value = test
    lines: list[_Line] = []
    for number in _numbers(machine, calls):
        lines += [
            (_IF_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, argument_at),
            (code, 0, 1, value),
            (_RETURN, 0, 0, if_so),
            (_RETURN, 0, 0, if_not),
        ]
    return lines


def _answering(machine: str, calls: Calls, answer: int) -> list[_Line]:
    """Jumps to one answer behind the last test; they are relative and at most 255 long."""
    numbers = _numbers(machine, calls)
    last = len(numbers) - 1
    lines: list[_Line] = [(_IF_EQUAL, last - at, 0, number) for at, number in enumerate(numbers)]
    lines[last] = (_IF_EQUAL, 0, 1, numbers[last])  # none of them: past the answer
    return [*lines, (_RETURN, 0, 0, answer)]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))


def install(libc: ctypes.CDLL, lines: bytes) -> None:
    """Put this process under the filter *lines* for good; needs no_new_privs."""
    program = _Program(len(lines) // 8, lines)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp filter refused")
