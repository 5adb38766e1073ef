"""`loopai demo` on small files: what it prints, how it ends, what it leaves behind."""

import random
import signal

import msgspec
import pytest

from loopai.embedded import stack

ROWS = 120
KEYS = {
    "examples", "unseen", "accuracy", "confidence_score", "executions", "audited", "p50_ms",
    "p99_ms", "batch_per_s", "program_bytes",
}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """Writes a table of two columns and a label that *label* makes of them."""

    def write(label):
        chance = random.Random(0)  # noqa: S311 (data, no secret)
        lines = ["Hours Spent,kind,grade"]
        for _ in range(ROWS):
            hours, kind = chance.randrange(100), chance.choice("ab")
            lines.append(f"{hours},{kind},{label(hours, kind, chance)}")
        (tmp_path / "data.csv").write_text("\n".join(lines))
        return "data.csv"

    return write


def separable(hours, _kind, _chance):
    return "pass" if hours >= 50 else "fail"


def left_behind(tmp_path):
    return [path.name for path in (tmp_path / "temporary").iterdir()]


async def test_json_is_one_object_with_the_numbers(loopai, data, tmp_path):
    """Every execution is audited, the split is as asked for, and nothing is left behind."""
    command = await loopai("demo", "--json", "--data", data(separable), "--examples", "80")
    assert await command.ended() == 0, command.lines
    result = msgspec.json.decode(command.stdout)
    assert result.keys() >= KEYS
    assert (result["examples"], result["unseen"]) == (80, 40)
    assert result["executions"] == result["audited"] == 80
    assert result["failed"] == 0
    assert result["accuracy"] >= 0.9
    assert left_behind(tmp_path) == []


async def test_a_proxy_in_the_environment_is_not_asked(loopai, data):
    """Nothing that the demo talks to is behind it."""
    proxies = dict.fromkeys(("ALL_PROXY", "HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9")
    command = await loopai("demo", "--json", "--data", data(separable), **proxies)
    assert await command.ended() == 0, command.lines


async def test_numbers_are_estimated_within_the_tolerance(loopai, data, tmp_path):
    """A numeric label is a quantity: right means close enough."""
    file = data(lambda hours, kind, chance: f"{hours * 2 + 5 * (kind == 'a'):.1f}")
    command = await loopai("demo", "--json", "--data", file)
    assert await command.ended() == 0, command.lines
    assert msgspec.json.decode(command.stdout)["accuracy"] >= 0.9


async def test_a_draft_is_exit_code_1_with_the_reason(loopai, data, tmp_path):
    """Labels by chance cannot be learned, and the last line says so."""
    file = data(lambda hours, kind, chance: chance.choice(["pass", "fail"]))
    command = await loopai("demo", "--json", "--data", file)
    assert await command.ended() == 1
    assert command.stdout == ""
    assert "did not become active" in command.lines[-1]
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("stage", ["starting the bus", "generating a program"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_cleans_up(loopai, data, tmp_path, stage, number):
    """Ctrl-C or a closed terminal at any stage: its exit code, no folder, no process."""
    command = await loopai("demo", "--data", data(separable))
    await command.line(stage)
    command.signal(number)
    assert await command.ended() == 128 + number
    assert command.children() == {}
    assert left_behind(tmp_path) == []


async def test_keep_leaves_the_stack_running_until_ctrl_c(loopai, data, tmp_path):
    """Its URLs are said, and work, until then."""
    command = await loopai("demo", "--keep", "--json", "--data", data(separable))
    line = await command.line("still running until Ctrl-C")
    url = line.partition("Ctrl-C: ")[2].partition(" ")[0]
    tasks = await loopai("task", "list", "--json", "--url", url)
    assert await tasks.ended() == 0
    assert msgspec.json.decode(tasks.stdout)["tasks"][0]["name"] == "data"
    command.signal(signal.SIGINT)
    assert await command.ended() == 130
    assert msgspec.json.decode(command.stdout)["executions"] > 0
    assert left_behind(tmp_path) == []


def test_grace_is_longer_than_the_drain_of_the_ingress():
    """No child is killed while it still finishes what it has accepted."""
    from loopai.ingress import server  # noqa: PLC0415

    assert stack.GRACE_S > server.DRAIN_S
