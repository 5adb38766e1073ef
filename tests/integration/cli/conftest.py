"""Whole commands as processes beside a running system."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.integration.embedded import conftest as embedded
from tests.system import System

loopai = embedded.loopai
Start = Callable[..., Awaitable[embedded.Command]]


@pytest.fixture
def at(system: System) -> dict[str, str]:
    """The environment that leads to a running system."""
    return {"LOOPAI_URL": str(system.http.base_url).rstrip("/"), "COLUMNS": "120"}


@pytest.fixture
def on_path(tmp_path: Path) -> Path:
    """A folder with a `loopai` that is this one, for shells."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "loopai"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m loopai.cli.main "$@"\n')
    command.chmod(0o755)
    return folder
