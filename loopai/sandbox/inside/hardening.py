"""What every executor gives up, whatever it runs, before it sees a byte of the program."""

from __future__ import annotations

import ctypes
import os
import resource

from loopai.sandbox.inside import landlock, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CLOSE_RANGE = 436
_ALL_FDS = 0xFFFF_FFFF

NOTHING = {
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NPROC: 0,
    resource.RLIMIT_MSGQUEUE: 0,
    resource.RLIMIT_MEMLOCK: 0,
}
"""Limits of an executor that writes no file, starts nothing and pins no memory."""


def harden(
    libc: ctypes.CDLL,
    *,
    rules: int,
    bounds: Mapping[int, int],
    user: int | None,
    fds: int,
    lines: bytes,
) -> None:
    """Give up, in this order, all that a program does not need. Raises before it is half done.

    Keeps the first *fds* descriptors; *user* is a uid to become, where init may give it.
    """
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs refused")
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "dumpable refused")
    landlock.restrict(libc, rules)
    for kind, bound in bounds.items():
        resource.setrlimit(kind, (bound, bound))
    if user is not None:
        # From uid 0 to another: the kernel clears every capability with it.
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    if libc.syscall(_CLOSE_RANGE, fds, ctypes.c_uint(_ALL_FDS), 0):
        raise OSError(ctypes.get_errno(), "close_range refused")
    seccomp.install(libc, lines)
