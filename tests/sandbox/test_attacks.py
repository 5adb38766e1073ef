"""Every attack of the catalogue, by every way to a cell, and what must hold after each.

One process drives all attacks of one stage in turn; each test here waits for its own verdict.
"""

import os

import pytest

from tests.sandbox import drive, stage
from tests.sandbox.attacks import catalogue

BOTH = catalogue.PYTHON | catalogue.JAVASCRIPT
STAGES = {
    "batch": (stage.here, "batch", BOTH),
    "over HTTP": (stage.here, "http", BOTH),
    "as an ordinary user": (stage.ordinary, "call", BOTH),
}
if os.environ.get(stage.CONTAINER_ASKED):
    STAGES["in a container"] = (stage.contained, "call", BOTH)

CASES = [
    # A drive goes through its stage once: all of a stage are for one and the same test process.
    pytest.param(place, name, marks=pytest.mark.xdist_group(place))
    for place, (_, _, areas) in STAGES.items()
    for name in (*catalogue.named(areas=areas), drive.END)
]


@pytest.fixture(scope="module")
def driven(request, tmp_path_factory):
    """Opens a drive at a place, of those attacks that this session asks for there, in its order."""
    wanted = [item.callspec.params for item in request.session.items if item.path == request.path]
    opened = {}

    def at(place):
        if place not in opened:
            for other in opened.values():
                other.close()
            names = [one["name"] for one in wanted if one["place"] == place]
            command, way, _ = STAGES[place]
            folder = tmp_path_factory.mktemp("drive")
            folder.chmod(0o755)
            opened[place] = stage.Stage(
                command(way, folder), [name for name in names if name != drive.END]
            )
        return opened[place]

    with stage.ordinary_user():
        yield at
        for one in opened.values():
            one.close()


@pytest.mark.parametrize(("place", "name"), CASES)
def test_attack_gets_nothing(driven, place, name):
    """It ends as it must, a neighbour is right, no process or file is left, the worker is well."""
    verdict = driven(place).verdict(name)
    assert not verdict.problems, verdict
