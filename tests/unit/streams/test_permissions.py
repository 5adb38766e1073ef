"""The rights of roles as values, and the configuration that is printed of them."""

import subprocess
import sys

import pytest

from streams import permissions, topology


def test_tenants_are_named_by_their_names_and_nothing_else() -> None:
    """What is no name could stand for another subject, or break the configuration."""
    for name in ("a b", "*", ">", 'a"', "a.>", "", "x" * 129):
        with pytest.raises(permissions.PermissionsError, match="no name"):
            permissions.configuration([name])


def test_two_tenants_may_not_share_a_variable() -> None:
    """Else one password would open both."""
    with pytest.raises(permissions.PermissionsError, match="share a variable"):
        permissions.configuration(["a-b", "a.b"])
    assert permissions.configuration(["a", "a"]).count("user: ") == len(permissions.ROLES) + 1


def test_a_tenant_with_a_dot_in_its_name_keeps_to_one_token() -> None:
    """Or it could read what another tenant's name begins with."""
    role = permissions.tenant("a.b")
    assert "loopai.v1.call.a%2Eb.*" in role.publish
    assert role.subscribes == ("_INBOX.tenant.a%2Eb.>",)


def test_consumers_of_a_stream_belong_to_the_pool_that_may_take_from_it() -> None:
    """An executor may take from every consumer of EXECUTE: there must be no other kind there."""
    for consumer in topology.CONSUMERS:
        if consumer.stream == topology.EXECUTE.name:
            assert consumer.durable.startswith("executor-")


def test_nobody_but_the_admin_may_ask_for_all_of_the_api() -> None:
    """No role has a wildcard where JetStream's verbs stand."""
    for role in permissions.ROLES:
        if role is not permissions.ADMIN:
            assert not {">", "$JS.>", "$JS.API.>", "$KV.>", "loopai.>"} & {*role.publish}
            assert not any(each.startswith("$JS.API.*") for each in role.publish)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tenant", "acme"], 'user: "tenant-acme"\n      password: $NATS_PASSWORD_TENANT_ACME'),
        (["--proof", "nkey"], "nkey: $NATS_NKEY_GATEWAY"),
    ],
)
def test_the_command_prints_them(arguments: list[str], said: str) -> None:
    """Without a broker."""
    command = [sys.executable, "-m", "streams", "permissions", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said in done.stdout


def test_the_command_refuses_what_is_no_tenant() -> None:
    """With one line and exit code 1."""
    command = [sys.executable, "-m", "streams", "permissions", "--tenant", "a b"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: 'a b' is no name of a tenant\n"
