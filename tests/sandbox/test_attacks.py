"""Every attack of the catalogue, by every way to a cell, and what must hold after each.

One process drives all attacks of one stage in turn; each test here waits for its own verdict.
"""

import pytest

from tests.sandbox import drive, stage
from tests.sandbox.attacks import catalogue

STAGES = {
    "shared": (stage.here, "shared"),
    "batch": (stage.here, "batch"),
    "http": (stage.here, "http"),
    "ordinary user": (stage.ordinary, "call"),
}


@pytest.fixture(scope="module", params=STAGES)
def running(request, tmp_path_factory):
    """A drive of those attacks that this session asks for, in the order in which it does."""
    names = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.function is test_attack_gets_nothing
        and item.callspec.params["running"] == request.param
    ]
    command, way = STAGES[request.param]
    folder = tmp_path_factory.mktemp("drive")
    folder.chmod(0o755)
    started = stage.Stage(command(way, folder), names)
    yield started
    started.close()


@pytest.mark.parametrize("name", catalogue.named(areas=catalogue.PYTHON))
def test_attack_gets_nothing(running, name):
    """It ends as it must, a neighbour is right, no process or file is left, the worker is well."""
    verdict = running.verdict(name)
    assert not verdict.problems, verdict


def test_nothing_is_left_when_all_cells_are_closed(running):
    """After all attacks of a stage: no process, no file, and as many descriptors as before."""
    verdict = running.verdict(drive.END)
    assert not verdict.problems, verdict
