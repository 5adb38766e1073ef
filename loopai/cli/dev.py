"""`loopai dev`: the whole of Loopai in one command, on this machine."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from loopai.cli import interrupt, options, output

if TYPE_CHECKING:
    from loopai.embedded import stack


def dev(
    *,
    http: Annotated[
        str,
        typer.Option(
            envvar="LOOPAI_HTTP",
            metavar="HOST:PORT",
            help="Where the API listens; port 0: a free one.",
        ),
    ] = "127.0.0.1:8080",
    grpc: Annotated[
        str,
        typer.Option(
            envvar="LOOPAI_GRPC",
            metavar="HOST:PORT",
            help="Where it listens for gRPC as well; takes the extra grpc.",
        ),
    ] = "",
    data_dir: Annotated[
        Path,
        typer.Option(
            envvar="LOOPAI_DATA_DIR",
            help="Where everything is kept; one `dev` at a time may use it.",
        ),
    ] = Path(".loopai"),
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many executors.")] = 1,
    ingress: Annotated[
        int, typer.Option(min=1, max=64, help="How many processes serve HTTP, on one port.")
    ] = 1,
    nats_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the bus on 127.0.0.1; 0: a free one.")
    ] = 4222,
    sync: Annotated[
        Literal["always", "default"],
        typer.Option(help="always: what is acknowledged survives a power cut. default: a crash."),
    ] = "always",
    as_json: options.AsJson = False,
) -> None:
    """Run everything here until Ctrl-C: the bus, the API and one worker of each kind.

    It is ready when every process of it has shown itself in `GET /health`; `--json` prints one
    object then, with `url`, `nats_url` and, where a first key was made, `api_key`. A child that
    ends is started again. Ctrl-C finishes what has begun, a second one ends it at once. Other
    `LOOPAI_*` settings reach the children.

    Example: `loopai dev --workers 4 --http 127.0.0.1:9000`
    """
    import uvloop  # noqa: PLC0415 (kept from `loopai --help`)

    from loopai.embedded import stack  # noqa: PLC0415 (the same)

    wanted = stack.Options(
        http=http,
        grpc=grpc,
        data_dir=data_dir,
        workers=workers,
        ingress=ingress,
        nats_port=nats_port or None,
        sync=sync,
    )
    uvloop.run(_dev(stack.Stack(wanted, _say_json if as_json else _say), as_json))


async def _dev(running: "stack.Stack", as_json: bool) -> None:
    try:
        await interrupt.guard(_serve(running, as_json), running.kill)
    except interrupt.Interrupted as interrupted:
        # A service that is told to end and does so has done nothing wrong.
        raise typer.Exit(130 if interrupted.number == signal.SIGINT else 0) from None


async def _serve(running: "stack.Stack", as_json: bool) -> None:
    async with running:
        if as_json:
            ready = {"status": "ready", "url": running.url, "nats_url": running.nats_url}
            if running.first_key:
                ready["api_key"] = running.first_key
            output.print_line(msgspec.json.encode(ready).decode())
        else:
            _say("loopai", f"ready: {running.url} (bus {running.nats_url}); Ctrl-C stops it")
            if running.first_key:
                _say("loopai", f"a first admin key, shown this once: {running.first_key}")
        await running.watch()


def _say(name: str, text: str) -> None:
    output.print_line(f"{name:<10} | {text}")


def _say_json(name: str, text: str) -> None:
    """Leave stdout to the one object that says what is ready."""
    typer.echo(f"{name:<10} | {text}", err=True)
