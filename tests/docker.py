"""Containers, where a Docker engine answers."""

import shutil
import subprocess

import pytest

ANSWER_S_MAX = 30.0


def require() -> None:
    """Skip the test where no engine answers."""
    asked = subprocess.run(
        ["docker", "version"] if shutil.which("docker") else ["false"],
        capture_output=True,
        timeout=ANSWER_S_MAX,
        check=False,
    )
    if asked.returncode:
        pytest.skip("no Docker engine answers here")
