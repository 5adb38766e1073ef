"""Commands that use the bus itself, on one that asks who one is."""

import os

import msgspec
import pytest

from streams import connection, credentials, permissions, provision, topology
from tests.secured import TENANTS, Secured

ROLES = ("admin", "ingress", "auditor")


@pytest.fixture
async def seeds(tmp_path):
    """A file with the seed of each role, by its name."""
    found = {}
    for role in ROLES:
        path = tmp_path / f"{role}.nk"
        path.write_text(credentials.seed(os.urandom(32)))
        found[role] = str(path)
    return found


@pytest.fixture
async def nkeys(tmp_path, seeds):
    """A broker that knows its users by their nkeys, with all streams."""
    roles = [*permissions.ROLES, *map(permissions.tenant, TENANTS)]
    values = {}
    for each in roles:
        path = seeds.get(each.name)
        seed = path and credentials.Credentials(nkey=path).signer()
        other = credentials.Signer(credentials.seed(os.urandom(32)), "other")
        values[permissions.variable(each, "nkey")] = (seed or other).public
    async with Secured(tmp_path / "nats", proof="nkey", values=values) as broker:
        admin = credentials.Credentials(nkey=seeds["admin"])
        url = f"nats://127.0.0.1:{broker.port}"
        bus = await connection.connect(url, name="test", role="admin", proof=admin)
        await provision.apply(bus, topology.topology())
        await bus.close()
        yield url


async def test_commands_prove_who_they_are_with_a_file(loopai, nkeys, seeds):
    """Keys are made and listed as the ingress, the audit log is read as the auditor."""

    async def call(role, *arguments, **more):
        environment = {"LOOPAI_NATS_URL": nkeys, "LOOPAI_NATS_NKEY": seeds.get(role, ""), **more}
        command = await loopai(*arguments, LOOPAI_URL="http://127.0.0.1:1", **environment)
        return await command.ended(), command.stdout, command.lines

    code, _, err = await call("ingress", "key", "create", "first", "--scope", "admin", "--bus")
    assert code == 0, err
    code, out, err = await call("ingress", "key", "list", "--bus", "--json")
    assert [each["name"] for each in msgspec.json.decode(out)["keys"]] == ["first"], err
    assert (await call("auditor", "audit", "tail"))[0] == 0
    code, out, _ = await call("ingress", "doctor", "--json", LOOPAI_AUTH="required")
    found = {each["part"]: each for each in msgspec.json.decode(out)["findings"]}
    assert code == 1
    assert [found[part]["state"] for part in ("broker", "streams", "keys")] == ["ok"] * 3
    assert found["keys"]["detail"] == "all are asked for one; 1 valid on the bus"
    for arguments in (("key", "list", "--bus"), ("audit", "tail")):
        code, _, err = await call("nobody", *arguments)
        assert code == 1
        assert "LOOPAI_NATS_NKEY" in err[0]


async def test_commands_take_the_user_in_the_url(loopai, tmp_path):
    """The doctor as the admin, who makes streams; keys as the ingress."""
    async with Secured(tmp_path / "nats") as broker:
        bus = await connection.connect(broker.url, name="test", role="admin")
        await provision.apply(bus, topology.topology())
        await bus.close()
        command = await loopai("doctor", "--json", LOOPAI_NATS_URL=broker.url)
        assert await command.ended() == 1
        found = {each["part"]: each for each in msgspec.json.decode(command.stdout)["findings"]}
        assert [found[part]["state"] for part in ("broker", "streams")] == ["ok"] * 2
        assert (
            found["keys"]["detail"]
            == "by these settings nobody is asked for one; 0 valid on the bus"
        )
        assert "secret-of" not in command.stdout
        url = broker.url_of("ingress")
        create = ("key", "create", "first", "--scope", "admin", "--bus", "--nats-url", url)
        command = await loopai(*create)
        assert await command.ended() == 0, command.lines


@pytest.mark.parametrize("command", [("key", "list", "--bus"), ("audit", "tail")])
async def test_a_wrong_setting_stops_a_command_by_its_name(loopai, command):
    """With one line, before anything is asked of the bus."""
    ran = await loopai(*command, LOOPAI_AUTH="maybe")
    assert await ran.ended() == 1
    [line] = ran.lines
    assert line.startswith("error: LOOPAI_AUTH='maybe': ")
