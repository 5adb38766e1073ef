"""`python -m bench [NAME …]`: measures, and prints one table a part.

Without a name: latency, memory and sandbox, two minutes. soak takes three more and is not among
them; it ends with exit code 1 where something leaks.
"""

import argparse
import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import msgspec
from rich import console

from bench import report
from loopai.embedded import broker

DEFAULT_PARTS = ("latency", "memory", "sandbox")
PARTS = (*DEFAULT_PARTS, "soak")
WIDTH = 140
"""Columns where the output is not a terminal."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", nargs="*", metavar="NAME", help=", ".join(PARTS))
    parser.add_argument(
        "--json", action="store_true", help="one line for the machine and each part"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.part) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    machine = {
        "processor": f"{os.cpu_count()} CPUs ({_processor()})",
        "kernel": f"Linux {platform.release()}",
        "python": f"Python {platform.python_version()}",
        "broker": f"nats-server {_broker()}",
        # What others do on this machine is in every p99.
        "load": f"load {os.getloadavg()[0]:.1f} before",
    }
    shown = console.Console(width=None if sys.stdout.isatty() else WIDTH)
    if arguments.json:
        print(msgspec.json.encode(machine).decode(), flush=True)
    else:
        shown.print(", ".join(machine.values()), style="dim")
    failures: list[str] = []
    for part in arguments.part or DEFAULT_PARTS:
        measured: report.Report = importlib.import_module(f"bench.{part}").measure()
        if arguments.json:
            print(msgspec.json.encode({"part": part, "report": measured}).decode(), flush=True)
        else:
            shown.print(measured.shown())
        failures += measured.failures
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(1 if failures else 0)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _broker() -> str:
    done = subprocess.run(
        [broker.find_server(), "--version"], capture_output=True, text=True, check=True
    )
    return done.stdout.rpartition("v")[2].strip()


if __name__ == "__main__":
    main()
