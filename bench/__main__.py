"""`python -m bench [latency|memory|sandbox …]`: each part prints one table; all without a name."""

import argparse
import importlib
import os
import platform
import subprocess
from pathlib import Path

from rich import console

from loopai.embedded import broker

PARTS = ("latency", "memory", "sandbox")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("part", nargs="*", choices=(*PARTS, []), help="default: all")
    parts = parser.parse_args().part or PARTS
    console.Console().print(
        f"{os.cpu_count()} CPUs ({_processor()}), Linux {platform.release()}, "
        f"Python {platform.python_version()}, nats-server {_broker()}",
        style="dim",
    )
    for part in parts:
        importlib.import_module(f"bench.{part}").main()


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
