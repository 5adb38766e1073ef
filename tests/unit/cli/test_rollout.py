"""How a rollout reads at a terminal."""

from datetime import UTC, datetime

import msgspec
import pytest

from loopai.cli import rollout
from streams.messages import Canary, Rollout, RolloutChange

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _change(version: int, *, forced: bool = False) -> RolloutChange:
    return RolloutChange(
        at=NOW, by="api", action="activate", version=version, previous=version - 1, forced=forced
    )


def _shown(capsys: pytest.CaptureFixture[str], found: Rollout, *, as_json: bool = False) -> str:
    rollout._print(msgspec.json.encode(found), as_json=as_json)
    return capsys.readouterr().out


def test_roles_and_lines_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Who has which role, and the newest change first."""
    found = Rollout(
        task_id="t",
        active=3,
        canary=Canary(version=4, percent=2.5, started_at=NOW),
        history=(_change(3), _change(4, forced=True)),
    )
    shown = " ".join(_shown(capsys, found).split())
    assert "active version 3" in shown
    assert "canary version 4, 2.5 %, since 2026-01-02 03:04:05Z" in shown
    assert "shadow none" in shown
    assert shown.index("api activate 4 3 forced") < shown.index("api activate 3 2")


def test_a_long_history_is_cut_at_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    """The oldest lines are left out, but in JSON there are all."""
    changes = tuple(_change(version) for version in range(1, rollout.LINES_MAX + 2))
    found = Rollout(task_id="t", active=len(changes), history=changes)
    assert _shown(capsys, found).count("activate") == rollout.LINES_MAX
    assert msgspec.json.decode(_shown(capsys, found, as_json=True), type=Rollout) == found
