"""What runs programs: a module for each runtime says which files its cells get."""

from loopai.sandbox.runtimes import deno, python, runtime
from streams import messages, topology


def languages() -> frozenset[messages.Language]:
    """Return the languages that this machine can run. Starts nothing."""
    here = {"python", "deno"} if deno.find() else {"python"}
    return frozenset(each for each, name in topology.RUNTIMES.items() if name in here)


async def discover(name: messages.Runtime) -> runtime.Runtime:
    """Return what cells of runtime *name* need here. MissingError where it is not installed."""
    return await (deno.discover() if name == "deno" else python.discover())
