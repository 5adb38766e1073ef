"""Callers with a connection of their own, and which process has its other end."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

LISTENS = "0A"
"""State of a socket in /proc/net/tcp: TCP_LISTEN in the kernel's <net/tcp_states.h>."""


@contextlib.asynccontextmanager
async def caller(url: str) -> AsyncIterator[tuple[httpx.AsyncClient, int]]:
    """A client on a connection that is open, and the process that accepted it."""
    limits = httpx.Limits(max_connections=1, keepalive_expiry=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
        answer = await http.get("/health/live")
        stream = answer.extensions["network_stream"]
        ours, theirs = (stream.get_extra_info(f"{end}_addr")[1] for end in ("client", "server"))
        (pid,) = _holders(_inodes(theirs, ours))
        yield http, pid


def listeners(port: int) -> set[int]:
    """Processes that listen on *port* now."""
    return _holders(_inodes(port, 0))


def _inodes(local: int, remote: int) -> set[str]:
    """Sockets with these ports; with *remote* 0 those that listen."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        row[9]
        for row in rows
        if _port(row[1]) == local and (_port(row[2]) == remote if remote else row[3] == LISTENS)
    }


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _holders(inodes: set[str]) -> set[int]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    found = set()
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):  # not ours, or it ended while we looked
            if any(_link(each) in wanted for each in folder.iterdir()):
                found.add(int(folder.parent.name))
    return found


def _link(descriptor: Path) -> str:
    with contextlib.suppress(OSError):  # closed while we looked
        return str(descriptor.readlink())
    return ""
