"""Hostile programs over several calls, or several executors: what one attack alone cannot show.

Single attacks stand in `attacks`, as data, and `test_attacks` drives them.
"""

import os
import time

from tests.sandbox.attacks import attack


def source(body):
    """A program that answers "sane?" with "sane" and anything else by *body*."""
    program = attack.gives("", body, None, alone=True).program
    return (
        program
        + """
hostile = run
def run(value):
    return "sane" if value == "sane?" else hostile(value)
"""
    )


async def test_identity_is_nobody_s(cells):
    """As root every executor has a uid of its own; as a user it has that user's in a namespace."""
    code = source("return repr((os.getuid(), os.getpid() > 1))")
    first = await cells.value(code, isolation="call")
    second = await cells.value(code, isolation="call")
    if os.getuid() == 0:
        assert first != second
        assert "(0," not in first


async def test_forged_success_for_a_later_call_is_not_believed(cells):
    """Bytes after the batch's results end the executor; the next call gets its own answer."""
    code = source("""frame = sys._getframe()
while frame and 'nonce' not in frame.f_locals: frame = frame.f_back
nonce = frame.f_locals['nonce'].to_bytes(8, 'little')
one = b'\\x91\\x93\\x00\\x01\\xc4\\x06"evil"'
os.write(3, (len(one).to_bytes(4, 'little') + nonce + one) * 3)
return 1""")
    await cells.one(code, "attack")
    assert await cells.value(code, "sane?") == "sane"
    assert await cells.value(code, "sane?") == "sane"


async def test_lying_progress_page_does_not_extend_the_deadline(cells):
    code = source("""frame = sys._getframe()
while frame.f_code.co_name != '_batch': frame = frame.f_back
page = frame.f_locals['page']
struct = load('struct')
n = 0
while True:
    n += 1
    struct.pack_into('<qd', page, 8, n % 3, time.monotonic() + 100)""")
    await cells.value(code, "sane?")
    begun = time.monotonic()
    outcomes = await cells.many(code, ["attack"] * 3, timeout_ms=100)
    assert "success" not in {one.kind for one in outcomes}
    assert time.monotonic() - begun < 5.0


async def test_patched_builtins_stay_in_their_executor(cells):
    code = source("""sys.modules['json'].loads = lambda *_: 'sane?'
sys.modules['builtins'].len = lambda _: 0
return 1""")
    await cells.one(code, "attack", isolation="call")
    assert await cells.value(code, "sane?", isolation="call") == "sane"
    neighbour = "def run(value):\n    return len(value)\n"
    assert await cells.value(neighbour, [1, 2], tenant="neighbour") == 2
