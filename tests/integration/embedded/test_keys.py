"""Keys as people use them: a `loopai dev` that asks, and `loopai key`."""

import signal

import httpx
import msgspec
import pytest

from loopai.cli import api

FREE = ("--http", "127.0.0.1:0", "--nats-port", "0")


@pytest.fixture
async def call(loopai):
    """Calls `loopai …` against a dev that asks who its callers are, without a key of its own."""
    dev = await loopai("dev", "--json", *FREE, LOOPAI_AUTH="required")
    where = msgspec.json.decode(await dev.out('"ready"'))
    urls = {"LOOPAI_URL": where["url"], "LOOPAI_NATS_URL": where["nats_url"]}

    async def run(*arguments, **environment):
        command = await loopai(*arguments, **{**urls, **environment})
        return await command.ended(), command.stdout, command.lines

    run.key = where["api_key"]
    run.url = where["url"]
    yield run
    dev.signal(signal.SIGTERM)
    assert await dev.ended() == 0
    logged = [line for line in dev.lines if '"ready"' not in line]
    assert run.key not in "\n".join(logged)


async def test_from_the_first_key_to_the_last(call):
    """The first key makes others, for any tenant; each does what it may; revoked, nothing."""
    code, _, err = await call("task", "list")
    assert code == 1
    assert "UNAUTHENTICATED" in err[0]
    assert api.KEY_VARIABLE in err[0]
    first = {api.KEY_VARIABLE: call.key}
    assert (await call("task", "list", **first))[0] == 0
    assert (await call("--api-key", call.key, "task", "list"))[0] == 0

    create = ("key", "create", "ci", "--scope", "author", "--scope", "observe")
    code, out, err = await call(*create, "--tenant", "acme", "--expires", "1d", **first)
    assert code == 0, err
    acme = {api.KEY_VARIABLE: out.strip()}
    assert out.startswith("lpk_")
    assert "key ci of the tenant acme: author, observe; valid until 2" in err[0]
    assert (await call("task", "create", "t", "--input-schema", "{}", "--output-schema", "{}",
                       **acme))[0] == 0  # fmt: skip
    code, out, _ = await call("task", "show", "t", "--json", **acme)
    assert msgspec.json.decode(out)["tenant"] == "acme"
    code, _, err = await call("task", "show", "t", **first)
    assert "TASK_NOT_FOUND" in err[0]
    code, _, err = await call("run", "t", "1", **acme)
    assert err[0].startswith("error: FORBIDDEN: this takes the scope execute")

    code, out, _ = await call("key", "list", "--tenant", "acme", "--json", **first)
    [listed] = msgspec.json.decode(out)["keys"]
    assert listed["created_by"] == "first"
    code, out, _ = await call("key", "revoke", listed["id"], **first)
    assert out.startswith("key ci of the tenant acme is revoked at 2")
    code, _, err = await call("task", "list", **acme)
    assert "UNAUTHENTICATED" in err[0]


async def test_the_bus_is_the_way_back(call):
    """Who has the bus makes, lists and revokes keys though the API lets nobody in."""
    code, out, err = await call("key", "list", "--bus", "--json")
    assert code == 0, err
    [first] = msgspec.json.decode(out)["keys"]
    assert (first["name"], first["scopes"]) == ("first", ["admin"])
    assert (await call("key", "revoke", first["id"], "--bus"))[0] == 0
    assert (await call("key", "list", **{api.KEY_VARIABLE: call.key}))[0] == 1
    code, out, _ = await call("key", "create", "again", "--scope", "admin", "--bus", "--json")
    made = msgspec.json.decode(out)
    assert (made["tenant"], made["created_by"]) == ("default", "cli")
    async with httpx.AsyncClient(base_url=call.url) as http:
        answer = await http.get("/api/v1/keys", headers={"X-Api-Key": made["key"]})
    assert [each["name"] for each in answer.json()["keys"]] == ["first", "again"]
    code, _, err = await call("key", "create", "a b", "--scope", "admin", "--bus")
    assert (code, err[0][:14]) == (1, "error: /name: ")


async def test_a_key_has_a_rate_and_a_quota(call):
    """They are shown, they hold, and what is no rate is named, with or without the API."""
    first = {api.KEY_VARIABLE: call.key}
    create = ("key", "create", "slow", "--scope", "observe", "--quota", "9/hour", "--json")
    code, out, err = await call(*create, "--rate", "1/day", **first)
    assert code == 0, err
    made = msgspec.json.decode(out)
    assert (made["rate"], made["quota"]) == ("1/day", "9/hour")
    slow = {api.KEY_VARIABLE: made["key"]}
    assert (await call("task", "list", **slow))[0] == 0
    code, _, err = await call("task", "list", **slow)
    assert code == 1
    assert "RATE_LIMITED" in err[0]
    for where in ((), ("--bus",)):
        for option in ("--rate", "--quota"):
            create = ("key", "create", "k", "--scope", "observe", option, "soon", *where)
            code, out, err = await call(*create, **first)
            assert (code, out) == (1, "")
            assert f"/{option[2:]}: expected NUMBER/second, /minute, /hour or /day" in err[0]


async def test_a_first_key_is_made_once(loopai):
    """A second start on the same folder finds it; without LOOPAI_AUTH none is made at all."""
    stated = []
    for environment in ({}, {"LOOPAI_AUTH": "required"}, {"LOOPAI_AUTH": "required"}):
        dev = await loopai("dev", "--json", *FREE, **environment)
        stated.append(msgspec.json.decode(await dev.out('"ready"')))
        dev.signal(signal.SIGTERM)
        assert await dev.ended() == 0
    assert ["api_key" in each for each in stated] == [False, True, False]


async def test_nothing_that_others_can_reach_starts_open(loopai, tmp_path):
    """One line with both ways out, before anything starts; told so, it does."""
    command = await loopai("dev", "--http", "0.0.0.0:0", "--nats-port", "0")
    assert await command.ended() == 1
    [line] = command.lines
    assert "LOOPAI_AUTH=required" in line
    assert "LOOPAI_AUTH=none" in line
    assert not (tmp_path / ".loopai").exists()
    for auth, status in (("none", 200), ("required", 401)):
        arguments = ("dev", "--json", "--http", "0.0.0.0:0", "--nats-port", "0")
        dev = await loopai(*arguments, LOOPAI_AUTH=auth)
        url = msgspec.json.decode(await dev.out('"ready"'))["url"]
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{url}/api/v1/tasks")).status_code == status
        dev.signal(signal.SIGTERM)
        assert await dev.ended() == 0


async def test_the_demo_works_where_callers_are_asked(loopai, tmp_path):
    """It has the first key, and uses it."""
    rows = ["hours,grade", *(f"{at},{'pass' if at >= 50 else 'fail'}" for at in range(100))]
    (tmp_path / "data.csv").write_text("\n".join(rows))
    command = await loopai("demo", "--json", "--data", "data.csv", LOOPAI_AUTH="required")
    assert await command.ended() == 0, command.lines
    result = msgspec.json.decode(command.stdout)
    assert result["executions"] == result["audited"] > 0


@pytest.mark.parametrize("key", ["a b", "ключ", "a\nb"])
async def test_what_cannot_be_a_key_is_said_without_it(loopai, key):
    """Before anything is sent."""
    command = await loopai("task", "list", LOOPAI_API_KEY=key)
    assert await command.ended() == 1
    assert command.lines == ["error: LOOPAI_API_KEY is no key: it has a blank, or more than ASCII"]
