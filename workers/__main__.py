"""`python -m workers <pool>`: run one pool until SIGTERM or Ctrl-C."""

import argparse
import importlib
import os
import sys

import uvloop

from loopai import errors, settings
from streams.connection import BrokerUnavailable
from workers import runtime

POOLS = ("executor", "gateway", "generator", "recorder", "syncer", "notifier")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("pool", choices=POOLS, help="settings come from LOOPAI_* variables")
    name = parser.parse_args().pool
    # Imported by name: an executor must not carry the generator's libraries in its memory.
    pool = importlib.import_module(f"workers.{name}")
    try:
        return uvloop.run(runtime.run(name, pool.opened, settings.read(os.environ)))
    except (errors.StartupError, BrokerUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
