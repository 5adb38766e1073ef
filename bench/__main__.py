"""`python -m bench [NAME …]`: measures, and prints one table a part.

Without a name: all but soak, half an hour. http takes nine minutes with its defaults, fairness
five, scale four. http, latency, overload, profile, scale, memory, rollout and grpc need wrk, grpc
h2load (nghttp2-client), http and cache redis-server, and http what `make bench` installs into
.venv-bench. soak takes three more. The exit code is 1 where a target is missed or something fails.
"""

import argparse
import importlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from rich import console

from bench import contenders, http, page, report
from loopai import errors
from loopai.embedded import broker

DEFAULT_PARTS = (
    "http",
    "batch",
    "latency",
    "fairness",
    "overload",
    "profile",
    "scale",
    "memory",
    "rollout",
    "sandbox",
    "cache",
    "gateway",
    "grpc",
)
PARTS = (*DEFAULT_PARTS, "soak")
WIDTH = 140
"""Columns where the output is not a terminal."""
CONNECTIONS_MAX = 1024
"""Half of what the web processes queue."""
ROUNDS_MAX = 100
SECONDS_MAX = 60


def main() -> None:
    parser = _parser()
    arguments = parser.parse_args()
    unknown = set(arguments.part) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    parts = arguments.part or DEFAULT_PARTS
    given = {
        name: value
        for name in http.Options.__struct_fields__
        if (value := getattr(arguments, name)) is not None
    }
    if given and "http" not in parts:
        parser.error(f"--{min(given)} is an option of the part http")
    try:
        if arguments.write:
            page.require()
        failures = _run(parts, http.Options(**given), arguments)
    except (report.Unavailable, errors.StartupError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(1 if failures else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", nargs="*", metavar="NAME", help=", ".join(PARTS))
    parser.add_argument(
        "--json", action="store_true", help="one line for the machine and each part"
    )
    parser.add_argument(
        "--write", action="store_true", help="also into docs/performance.md, with a picture a part"
    )
    default = http.Options()
    of_http = parser.add_argument_group(
        "options of the part http",
        "Each number of connections takes rounds times seconds, and 2 s, for each of --only.",
    )
    names = ",".join(contenders.STARTS)
    of_http.add_argument("--only", type=_names, metavar="NAMES", help=f"of {names} (all)")
    counts = ",".join(map(str, default.connections))
    of_http.add_argument(
        "--connections", type=_counts, metavar="COUNTS", help=f"as in {counts}, the default"
    )
    of_http.add_argument(
        "--rounds", type=_bounded(ROUNDS_MAX), metavar="N", help=f"default {default.rounds}"
    )
    of_http.add_argument(
        "--seconds", type=_bounded(SECONDS_MAX), metavar="N", help=f"default {default.seconds}"
    )
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in contenders.STARTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(contenders.STARTS)}")
    return names


def _counts(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(map(_bounded(CONNECTIONS_MAX), text.split(","))))


def _bounded(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")
        return int(text)

    return number


def _run(parts: Sequence[str], options: http.Options, arguments: argparse.Namespace) -> list[str]:
    """Measure and show *parts*; returns what must not be."""
    machine = _machine()
    shown = console.Console(width=None if sys.stdout.isatty() else WIDTH)
    if arguments.json:
        print(msgspec.json.encode(machine).decode(), flush=True)
    else:
        shown.print(", ".join(machine.values()), style="dim")
    failures: list[str] = []
    for part in parts:
        load = f"load {os.getloadavg()[0]:.1f} before"
        measured = _measured(part, options)
        if arguments.json:
            print(msgspec.json.encode({"part": part, "report": measured}).decode(), flush=True)
        else:
            shown.print(measured.shown())
        if arguments.write:
            page.write(part, measured, {**machine, "load": load}, PARTS)
        failures += measured.failures
    return failures


def _measured(part: str, options: http.Options) -> report.Report:
    if part == "http":
        return http.measure(options)
    found: report.Report = importlib.import_module(f"bench.{part}").measure()
    return found


def _machine() -> Mapping[str, str]:
    return {
        "processor": f"{os.cpu_count()} CPUs ({_processor()})",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGESIZE') / 2**30:.0f} GiB",
        "kernel": f"Linux {platform.release()}",
        "python": f"Python {platform.python_version()}",
        "broker": f"nats-server {_broker()}",
        # What others do on this machine is in every p99.
        "load": f"load {os.getloadavg()[0]:.1f} before",
    }


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
