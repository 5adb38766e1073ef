"""Modules of the ingress that name each other."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["dispatch", "queues", "services"])
def test_a_module_can_be_imported_first(name: str) -> None:
    """Whichever a tool or a test begins with, none is half made when another one asks for it."""
    program = f"import loopai.ingress.{name}"
    subprocess.run([sys.executable, "-c", program], check=True)
