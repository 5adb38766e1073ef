"""Where the attacks are driven: a process of this user's, of an ordinary user's, in a container."""

import contextlib
import json
import os
import pathlib
import pwd
import queue
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import IO

import msgspec

from tests.sandbox import drive

ROOT = pathlib.Path(__file__).resolve().parents[2]
USER = f"loopai-test-{os.getpid()}"
"""The ordinary user, created for the tests where root runs them."""
CONTAINER_ASKED = "LOOPAI_TEST_CONTAINER"
"""Environment variable: drive in a container as well, whose image takes minutes to build."""
CONTAINER_SCRIPT = ROOT / "tools" / "sandbox-in-container.sh"
WAIT_S_MAX = 60.0
"""For the next verdict, the start of a whole stack included."""

_verdicts = msgspec.json.Decoder(drive.Verdict)


class Stage:
    """Drives the attacks *names* one way, in a process of its own. Closed by its owner."""

    def __init__(self, argv: Sequence[str], names: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._verdicts: dict[str, drive.Verdict] = {}
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._complaint = bytearray()
        self._readers = [
            threading.Thread(target=self._read, args=[self._process.stdout], daemon=True),
            threading.Thread(target=self._hear, args=[self._process.stderr], daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        with self._process.stdin as stdin:
            stdin.write(json.dumps(list(names)).encode())

    def verdict(self, name: str) -> drive.Verdict:
        """Wait until *name* has been tried."""
        while name not in self._verdicts:
            try:
                line = self._lines.get(timeout=WAIT_S_MAX)
            except queue.Empty:
                line = b""
            if not line:
                self._process.kill()
                self._lines.put(line)
                raise AssertionError(f"the drive has ended: {self._complaint.decode()[-6000:]}")
            verdict = _verdicts.decode(line)
            self._verdicts[verdict.name] = verdict
        return self._verdicts[name]

    def close(self) -> None:
        """End the drive. Again is harmless."""
        self._process.terminate()
        self._process.wait(timeout=WAIT_S_MAX)
        for reader in self._readers:
            reader.join()
        self._process.stdout.close()
        self._process.stderr.close()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(b"")

    def _hear(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._complaint += line


def here(way: str, folder: pathlib.Path) -> list[str]:
    """The command of a drive as the user that runs the tests."""
    return ["env", *_environment(), sys.executable, "-m", "tests.sandbox.drive", way, str(folder)]


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Create the ordinary user and remove it again; nothing where the tests run as one already."""
    if os.geteuid() != 0:
        yield
        return
    options = ["--system", "--user-group", "--no-create-home", "--shell", "/bin/false"]
    subprocess.run(["useradd", *options, USER], check=True)
    try:
        yield
    finally:
        subprocess.run(["userdel", USER], check=True)


def ordinary(way: str, folder: pathlib.Path) -> list[str]:
    """The command of a drive as an ordinary user; *folder* becomes that user's.

    Whoever is one already stays who they are. For root, what lies in a closed home (an interpreter
    in /root) is shown to the user in a mount namespace of the drive's own: the same files at the
    same paths, and nothing else of that home.
    """
    if os.geteuid() != 0:
        return here(way, folder)
    user = pwd.getpwnam(USER)
    os.chown(folder, user.pw_uid, user.pw_gid)
    needed = [pathlib.Path(sys.base_prefix).resolve(), pathlib.Path(sys.prefix), ROOT, folder]
    script = ["set -e", *_shown(needed)]
    who = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    script.append("exec " + shlex.join([*who, "--no-new-privs", *here(way, folder)]))
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script)]


def contained(way: str, folder: pathlib.Path) -> list[str]:
    """The command of a drive in a container, by podman; builds the image where it is not there."""
    return ["sh", str(CONTAINER_SCRIPT), way]


def _environment() -> list[str]:
    path = f"{pathlib.Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin"
    # -i: nothing of the tests' own environment is the drive's.
    return ["-i", f"PATH={path}", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1"]


def _shown(needed: Sequence[pathlib.Path]) -> list[str]:
    """Shell lines that show *needed* where a folder above is closed to others."""
    closed: dict[pathlib.Path, list[pathlib.Path]] = {}
    for path in needed:
        above = [parent for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001]
        if above:
            closed.setdefault(above[0], []).append(path)
    lines = []
    for folder, paths in closed.items():
        # Held by descriptors, as their paths are covered in between.
        fds = range(3, 3 + len(paths))
        lines += [f"exec {fd}<{shlex.quote(str(p))}" for fd, p in zip(fds, paths, strict=True)]
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(folder))}")
        for fd, path in zip(fds, paths, strict=True):
            quoted = shlex.quote(str(path))
            lines += [f"mkdir -p {quoted}", f"mount -c --rbind /proc/self/fd/{fd} {quoted}"]
        lines += [f"exec {fd}<&-" for fd in fds]
    return lines
