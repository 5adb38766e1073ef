"""The bus itself, for the commands that do without the API: with this environment's credentials."""

import logging
import os
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from loopai import errors, settings
from loopai.cli import failure
from streams import connection, permissions

BROKER_S_MAX: Final = 3.0
"""A person waits at the terminal: a broker that is there answers in milliseconds."""


@asynccontextmanager
async def connected(url: str, *, name: str, role: str) -> AsyncIterator[connection.Connection]:
    """A connection to the broker at *url* as *role*. failure.Failure."""
    # The one line of the Failure says the same.
    logging.getLogger(connection.__name__).setLevel(logging.ERROR)
    try:
        proof = settings.read(os.environ).nats_proof
        opened = await connection.connect(
            url, name=name, role=role, proof=proof, timeout_s=BROKER_S_MAX
        )
    except (errors.StartupError, connection.BrokerUnavailable) as error:
        raise failure.Failure(str(error)) from error
    try:
        yield opened
    finally:
        await opened.close()


def role(url: str) -> str:
    """Whose rights a command has that takes anybody's: the user in *url* is named like its role.

    With a file of credentials nothing tells: then it is the ingress, which may make keys.
    """
    try:
        user = urllib.parse.urlsplit(url.partition(",")[0]).username
    except ValueError:
        user = None
    return next((each.name for each in permissions.ROLES if each.name == user), "ingress")
