"""What `make` does about a package that the machine lacks."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH with what the script itself runs, and nothing to install with."""
    # Scripts, not links: a test that replaces one must not write through it.
    script(tmp_path, "env", 'exec /usr/bin/env "$@"')
    script(tmp_path, "id", 'exec /usr/bin/id "$@"')
    return tmp_path


def install(path: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", ROOT / "tools" / "install.sh", command, "a-package", "the suite"],
        env={"PATH": os.fspath(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def script(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def test_what_is_there_is_left_alone(path: Path) -> None:
    """Not a word, and nobody is asked for rights."""
    script(path, "apt-get", "echo called >&2; exit 1")
    script(path, "wanted", "true")
    done = install(path, "wanted")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_a_way_to_install_it_says_what_is_missing(path: Path) -> None:
    """One sentence with the command to run, and make stops."""
    done = install(path, "wanted")
    assert done.returncode == 1
    assert done.stderr == (
        'the suite needs wanted: install the package "a-package" '
        "(Debian, Ubuntu: sudo apt-get install a-package) and run make again\n"
    )


def test_a_list_that_is_old_is_renewed_before_it_gives_up(path: Path) -> None:
    """As in a fresh container, where nothing can be installed before `apt-get update`."""
    script(path, "id", "echo 0")
    script(
        path,
        "apt-get",
        f'case "$1" in update) echo >{path}/fresh;; *) [ -e {path}/fresh ] || exit 100\n'
        f'printf "#!/bin/sh\\n" >{path}/wanted; /usr/bin/chmod +x {path}/wanted;; esac',
    )
    assert install(path, "wanted").returncode == 0


def test_an_install_that_brings_no_command_fails(path: Path) -> None:
    """Whatever apt-get says of itself."""
    script(path, "id", "echo 0")
    script(path, "apt-get", "exit 0")
    done = install(path, "wanted")
    assert done.returncode == 1
    assert "install the package" in done.stderr


def test_who_is_neither_root_nor_may_become_it_is_told(path: Path) -> None:
    """No password is asked for in the middle of make."""
    script(path, "id", "echo 1000")
    script(path, "sudo", "exit 1")
    script(path, "apt-get", "echo called >&2; exit 1")
    done = install(path, "wanted")
    assert done.returncode == 1
    assert done.stderr.startswith("the suite needs wanted")


@pytest.mark.parametrize("arguments", ["bwrap bubblewrap", "redis-server redis-server"])
def test_make_asks_for_what_is_needed(arguments: str) -> None:
    """bubblewrap to run, redis-server for the tests only."""
    assert f"tools/install.sh {arguments} '" in MAKEFILE
