"""`python -m streams show|diff|apply|permissions`: the topology, on paper and on a broker.

`permissions` prints who may do what there, as a block of nats-server's configuration.
"""

import argparse
import asyncio
import os
import signal
import sys

import msgspec

from streams import connection, credentials, permissions, provision, topology


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m streams", description=__doc__)
    parser.add_argument("action", choices=("show", "diff", "apply", "permissions"))
    parser.add_argument(
        "--nats-url",
        default=os.environ.get("LOOPAI_NATS_URL", "nats://127.0.0.1:4222"),
        help="default: LOOPAI_NATS_URL, then %(default)s",
    )
    parser.add_argument(
        "--replicas", type=int, default=1, choices=(1, 3, 5), help="copies of every stream"
    )
    parser.add_argument(
        "--execute-backlog-max",
        type=int,
        # A default that is text goes through `type` as well, so that a bad one is an error.
        default=os.environ.get("LOOPAI_EXECUTE_BACKLOG_MAX", "10000"),
        help="messages queued per lane and task (default: %(default)s)",
    )
    parser.add_argument(
        "--tenant",
        action="append",
        default=[],
        metavar="NAME",
        help="permissions: a user for the clients of this tenant; may be repeated",
    )
    parser.add_argument(
        "--proof",
        choices=("password", "nkey"),
        default="password",
        help="permissions: what users prove themselves with (default: %(default)s)",
    )
    options = parser.parse_args()
    if options.action == "permissions":
        return _permissions(options.tenant, options.proof)
    wanted = topology.topology(
        replicas=options.replicas, execute_backlog_max=options.execute_backlog_max
    )
    if options.action == "show":
        print(msgspec.json.format(msgspec.json.encode(wanted)).decode())  # noqa: T201
        return 0
    try:
        return asyncio.run(_against_broker(options.action, options.nats_url, wanted))
    except (connection.BrokerUnavailable, topology.TopologyError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1


def _proof() -> credentials.Credentials:
    return credentials.Credentials(
        creds=os.environ.get("LOOPAI_NATS_CREDS", ""),
        nkey=os.environ.get("LOOPAI_NATS_NKEY", ""),
        ca=os.environ.get("LOOPAI_NATS_CA", ""),
    )


def _permissions(tenants: list[str], proof: permissions.Proof) -> int:
    try:
        print(permissions.configuration(tenants, proof=proof), end="")  # noqa: T201
    except permissions.PermissionsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


async def _against_broker(action: str, url: str, wanted: topology.Topology) -> int:
    connected = await connection.connect(url, name="streams", role="admin", proof=_proof())
    try:
        act = provision.apply if action == "apply" else provision.diff
        changes = await act(connected, wanted)
    finally:
        await connected.close()
    for change in changes:
        fields = ", ".join(f"{k}: {a} → {b}" for k, (a, b) in change.fields.items())
        print(f"{change.action} {change.kind} {change.name} {fields}".rstrip())  # noqa: T201
    if not changes:
        print("the broker matches the topology")  # noqa: T201
    return 0


if __name__ == "__main__":
    # `… | head` closes the pipe early; that is no error of ours.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
