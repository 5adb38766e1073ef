"""`loopai doctor` finds what is not there, and says how to mend it."""

import re
import signal

import msgspec
import pytest

from loopai.embedded.broker import Broker
from tests import redis


def findings(command):
    """By part, from `--json`."""
    found = msgspec.json.decode(command.stdout)["findings"]
    return {each["part"]: each for each in found}


@pytest.fixture
async def examined(loopai):
    """Ends `loopai doctor --json` in an environment; gives the command."""

    async def examine(status, **environment):
        command = await loopai("doctor", "--json", **environment)
        assert await command.ended() == status, command.lines
        return command

    return examine


async def test_all_is_well_with_a_running_stack(loopai, examined, tmp_path):
    dev = await loopai("dev", "--json", "--http", "127.0.0.1:0", "--nats-port", "0")
    where = msgspec.json.decode(await dev.out('"ready"'))
    urls = {"LOOPAI_URL": where["url"], "LOOPAI_NATS_URL": where["nats_url"]}
    async with redis.served("server", tmp_path) as cache:
        found = findings(await examined(0, **urls, LOOPAI_REDIS_URL=cache.url))
    states = {part: each["state"] for part, each in found.items()}
    assert states == {"keys": "off"} | dict.fromkeys(
        ("settings", "broker", "streams", "store", "cache", "sandbox", "api"), "ok"
    )
    assert (
        found["keys"]["detail"] == "by these settings nobody is asked for one; 0 valid on the bus"
    )
    assert "LOOPAI_NATS_URL" in found["settings"]["detail"]
    assert re.match(r"nats-server 2\.\d+\.\d+ at nats://", found["broker"]["detail"])
    assert "1 executor" in found["api"]["detail"]
    assert "1 notifier" in found["api"]["detail"]

    asked = {**urls, "LOOPAI_AUTH": "required"}
    found = findings(await examined(1, **asked))
    assert found["keys"]["state"] == "failed"
    first = found["keys"]["mend"].split()
    assert first[0] == "loopai"
    made = await loopai(*first[1:], **urls)
    assert await made.ended() == 0, made.lines
    found = findings(await examined(0, **asked))
    assert found["keys"]["detail"] == "all are asked for one; 1 valid on the bus"
    undecided = {**urls, "LOOPAI_HTTP": "0.0.0.0:8080"}
    found = findings(await examined(1, **undecided))
    assert "LOOPAI_AUTH=required" in found["keys"]["detail"]

    dev.signal(signal.SIGTERM)
    assert await dev.ended() == 0
    command = await examined(1, **urls)
    found = findings(command)
    assert (found["broker"]["state"], found["api"]["state"]) == ("failed", "failed")
    assert "loopai dev" in found["broker"]["mend"]
    assert command.lines[-1] == "error: 2 of 6 do not work: broker, api"


async def test_a_broker_without_streams_is_told_how_to_get_them(examined, broker: Broker):
    found = findings(await examined(1, LOOPAI_NATS_URL=broker.url, LOOPAI_URL="http://127.0.0.1:1"))
    assert found["streams"]["state"] == "failed"
    assert found["streams"]["detail"].startswith("to do: create EXECUTE, ")
    assert found["streams"]["mend"] == "python -m streams apply"


async def test_what_cannot_be_used_is_told_without_its_password(examined, tmp_path):
    (tmp_path / "file").write_text("")
    command = await examined(
        1,
        LOOPAI_NATS_URL="nats://127.0.0.1:1",
        LOOPAI_URL="http://127.0.0.1:1",
        LOOPAI_REDIS_URL="redis://me:secret@127.0.0.1:1/0",
        LOOPAI_STORE_URL=(tmp_path / "file").as_uri(),
    )
    found = findings(command)
    assert {part for part, each in found.items() if each["state"] == "failed"} == {
        "broker", "store", "cache", "api",
    }  # fmt: skip
    assert all(each["mend"] for each in found.values() if each["state"] == "failed")
    assert "127.0.0.1:1" in found["cache"]["detail"]
    assert "secret" not in command.stdout


async def test_a_wrong_setting_is_named_and_the_rest_is_tried(loopai):
    command = await loopai("doctor", LOOPAI_EXECUTOR_SLOTS="none", LOOPAI_URL="http://127.0.0.1:1")
    assert await command.ended() == 1
    lines = command.stdout.splitlines()
    assert lines[0].startswith("failed  settings  LOOPAI_EXECUTOR_SLOTS='none': ")
    assert any(line.startswith("ok      sandbox ") for line in lines)


async def test_nothing_is_made(examined, tmp_path):
    before = set(tmp_path.rglob("*"))
    await examined(1, LOOPAI_NATS_URL="nats://127.0.0.1:1", LOOPAI_URL="http://127.0.0.1:1")
    assert set(tmp_path.rglob("*")) == before
