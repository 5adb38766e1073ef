"""A cell whose host has no descriptors left: it says so, and what it has got is not lost."""

import asyncio
import os
import resource
import socket
import subprocess

import msgspec
import pytest

from loopai.sandbox import enclosure


def descriptors():
    return sorted(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.fixture
def limit():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_start_without_descriptors_fails_at_once_and_keeps_none(limit):
    """The last one was taken by init's: who it is cannot be read any more."""
    before = descriptors()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    process = subprocess.Popen(["sleep", "60"])  # noqa: ASYNC220
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    made = enclosure.Enclosure(None, process, ours, os.memfd_create("stderr"))
    init = os.pidfd_open(process.pid)
    socket.send_fds(theirs, [msgspec.msgpack.encode(("ready", 1))], [init])
    theirs.close()
    free = [os.dup(init), os.dup(init)]
    for fd in free:
        os.close(fd)
    limit(free[1])

    with pytest.raises(enclosure.EnclosureError, match="Too many open files"):
        async with asyncio.timeout(5):
            await made._ready

    limit(most)
    await made.close()
    os.close(init)
    assert descriptors() == before
