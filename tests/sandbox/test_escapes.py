"""Hostile programs: what they reach for, and that they get nothing.

Each program may use ctypes, os and socket, which the import statement would refuse: the boundary
under test is the kernel's. After each one a neighbour and the same program's next call are right.
"""

import json
import os
import pathlib
import time

import pytest

PRELUDE = """
import json
load = json.__builtins__["__import__"]
os, socket, ctypes, signal, resource, mmap, sys, time = map(load, (
    "os", "socket", "ctypes", "signal", "resource", "mmap", "sys", "time"))
libc = ctypes.CDLL(None, use_errno=True)

def call(*arguments):
    answer = libc.syscall(*arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer

def attempt(host):
    BODY

def run(value):
    if value == "sane?":
        return "sane"
    try:
        return ["reached", repr(attempt(value))]
    except (OSError, MemoryError) as error:
        return ["refused", type(error).__name__]
"""

# Each is one attempt that must be refused by an OSError.
REFUSED = {
    "read a file of the host": "return open(host['file']).read()",
    "read the runner's source": "return open('/cell/loopai/sandbox/inside/init.py').read()",
    "list the root": "return os.listdir('/')",
    "list proc": "return os.listdir('/proc')",
    "read own environment in proc": "return open('/proc/self/environ', 'rb').read()",
    "read passwd": "return open('/etc/passwd').read()",
    "read installed packages": "return open(host['stdlib'] + '/site-packages/README.txt')",
    "read a disk": "return os.open('/dev/sda', os.O_RDONLY)",
    "write outside tmp": "return open('/escaped', 'w')",
    "write beside the interpreter": "return open(host['stdlib'] + '/json/escaped.py', 'w')",
    "change a file of the interpreter": "return open(host['stdlib'] + '/json/__init__.py', 'r+')",
    "link a file of the interpreter": "return os.link(host['stdlib'] + '/os.py', '/tmp/os')",
    "make a symbolic link": "return os.symlink('/', '/tmp/root')",
    "make a fifo": "return os.mkfifo('/tmp/fifo')",
    "make a device": "return os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0))",
    "change a mode": "open('/tmp/mode', 'w').close(); return os.chmod('/tmp/mode', 0o6777)",
    "mount": "return call(165, b'none', b'/tmp', b'tmpfs', 0, None)",
    "pivot the root": "return call(155, b'/tmp', b'/tmp')",
    "chroot": "return os.chroot('/tmp')",
    "fork": "return os.fork()",
    "vfork": "return call(58)",
    "clone": "return call(56, 0x11, 0, 0, 0, 0)",
    "clone3": "return call(435, ctypes.create_string_buffer(88), 88)",
    "execute": "return os.execv(host['python'], ['python'])",
    "execute a descriptor": "return call(322, 3, b'', None, None, 0x1000)",
    "open an inet socket": "return socket.socket(socket.AF_INET)",
    "open an inet6 socket": "return socket.socket(socket.AF_INET6)",
    "open a raw socket": "return socket.socket(socket.AF_INET, socket.SOCK_RAW)",
    "open a unix socket": "return socket.socket(socket.AF_UNIX)",
    "open a netlink socket": "return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "open a socket pair": "return socket.socketpair()",
    "resolve a name": "return socket.getaddrinfo('localhost', 80)",
    "receive a descriptor": "return socket.socket(fileno=3).recvmsg(1, 100)",
    "send a descriptor": "return socket.socket(fileno=3).sendmsg([b'x'])",
    "duplicate a descriptor": "return os.dup(3)",
    "map memory to execute": "return mmap.mmap(-1, 4096, prot=mmap.PROT_EXEC | mmap.PROT_WRITE)",
    "make memory executable": "return call(10, ctypes.c_void_p(id(host) & ~4095), 4096, 5)",
    "map a file to execute": "return mmap.mmap(os.open(os.__file__, 0), 4096, flags=2, prot=5)",
    "make a memory file": "return os.memfd_create('code')",
    "trace init": "return call(101, 16, 1, 0, 0)",
    "read init's memory": "return call(310, 1, 0, 0, 0, 0, 0)",
    "take init's descriptor": "return call(438, os.pidfd_open(1), 3, 0)",
    "open a pidfd": "return os.pidfd_open(1)",
    "unshare a user namespace": "return call(272, 0x10000000)",
    "enter a namespace": "return call(308, 3, 0)",
    "use io_uring": "return call(425, 8, ctypes.create_string_buffer(120))",
    "use bpf": "return call(321, 0, ctypes.create_string_buffer(128), 128)",
    "use keys": "return call(250, 0, -3, 1)",
    "use performance counters": "return call(298, ctypes.create_string_buffer(128), 0, -1, -1, 0)",
    "use userfaultfd": "return call(323, 0)",
    "change process settings": "return call(157, 4, 1, 0, 0, 0)",
    "become root": "return os.setuid(0)",
    "change the hostname": "return socket.sethostname('mine')",
    "set the clock": "return time.clock_settime(time.CLOCK_REALTIME, 0)",
    "kill init": "return os.kill(1, signal.SIGKILL)",
    "kill everything": "return os.kill(-1, signal.SIGKILL)",
    "kill its group": "return os.killpg(0, signal.SIGKILL)",
    "stop itself": "return os.kill(os.getpid(), signal.SIGSTOP)",
    "change its priority": "return os.nice(-5)",
    "attach shared memory": "return call(29, 0, 4096, 0o1777)",
    "open a message queue": "return call(240, b'queue', 0o102, 0o600, None)",
    "allocate a file without end": "return os.posix_fallocate(os.open('/tmp/a', 66), 0, 10**9)",
    "fill the disk": "return [open(f'/tmp/{n}', 'wb').write(bytes(10**6)) for n in range(100)]",
    "write a file beyond the limit": "return open('/tmp/one', 'wb').write(bytes(17 * 2**20))",
    "open too many files": "return [open('/dev/null') for _ in range(100)]",
    "wait for another's end": "return os.waitpid(-1, 0)",
    "make a directory at the root": "return os.mkdir('/escaped')",
    "set an attribute": "open('/tmp/x', 'w'); os.setxattr('/tmp/x', 'user.a', b'b')",
    "read the kernel log": "return call(103, 3, ctypes.create_string_buffer(64), 64)",
    "open by handle": "return call(304, -100, ctypes.create_string_buffer(64), 0)",
}

OVERFLOW = """sys.setrecursionlimit(10**9)
    return sorted([1, 2], key=lambda _: attempt(host))"""

# Each must end as the kind beside it.
ENDS = {
    "x32 system call": ("return libc.syscall(0x40000000 + 39)", "killed"),
    "jump into data": ("ctypes.CFUNCTYPE(None)(id(host))()", "killed"),
    "forged frame with a wrong nonce": (
        "os.write(3, (2).to_bytes(4, 'little') + bytes(8) + b'\\x91\\x90'); return 1",
        "killed",
    ),
    "lying length": ("os.write(3, b'\\xff' * 12); return 1", "killed"),
    "flood": ("\n        while True: os.write(3, bytes(10**5))", "killed"),
    "ignored alarm": (
        "signal.signal(signal.SIGALRM, signal.SIG_IGN)\n    while True: pass",
        "timeout",
    ),
    "cancelled alarm": (
        "signal.setitimer(signal.ITIMER_REAL, 0)\n    while True: pass",
        "timeout",
    ),
    "sleep": ("time.sleep(100)", "timeout"),
    "jump over the stack": (OVERFLOW, "killed"),
}


def source(body):
    return PRELUDE.replace("BODY", body)


@pytest.fixture
def host():
    return {
        "file": str(pathlib.Path(__file__).resolve()),
        "stdlib": str(pathlib.Path(json.__file__).parents[1]),
        "python": os.path.realpath("/proc/self/exe"),
    }


@pytest.fixture
async def hostile(cells):
    """Runs a hostile program, then looks after its neighbour and itself."""
    neighbour = "def run(value):\n    return value * 2\n"
    await cells.load(neighbour, tenant="neighbour")

    async def run(body, value, **kind):
        code = source(body)
        outcome = await cells.one(code, value, **kind)
        assert await cells.value(code, "sane?") == "sane"
        assert await cells.value(neighbour, 21, tenant="neighbour") == 42
        return outcome

    return run


@pytest.mark.parametrize("name", REFUSED)
async def test_attempt_is_refused(hostile, host, name):
    outcome = await hostile(REFUSED[name], host)
    assert outcome.kind == "success", outcome
    assert json.loads(outcome.output)[0] == "refused", outcome.output


@pytest.mark.parametrize("name", ENDS)
async def test_attempt_ends_the_call_alone(hostile, host, name):
    body, kind = ENDS[name]
    outcome = await hostile(body, host, timeout_ms=300)
    assert outcome.kind == kind, outcome


async def test_environment_and_arguments_are_empty(cells):
    body = "return [dict(os.environ), sys.argv, os.getcwd()]"
    outcome = await cells.one(source(body), None)
    assert json.loads(outcome.output) == ["reached", "[{}, [''], '/']"]


async def test_descriptors_are_null_and_the_data_socket(cells):
    body = """found = []
    for fd in range(1000):
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.append(fd)
    return found"""
    assert await cells.value(source(body)) == ["reached", "[0, 1, 2, 3]"]


async def test_identity_is_nobody_s(cells):
    """As root every executor has a uid of its own; as a user it has that user's in a namespace."""
    code = source("return os.getuid(), os.getpid() > 1")
    first = await cells.value(code, isolation="call")
    second = await cells.value(code, isolation="call")
    if os.getuid() == 0:
        assert first != second
        assert "(0," not in first[1]


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_NOFILE", "RLIMIT_FSIZE"])
async def test_limit_cannot_be_raised(hostile, limit):
    body = f"return resource.setrlimit(resource.{limit}, (2**40, 2**40))"
    outcome = await hostile(body, None)
    # PermissionError from the kernel; `resource` turns some of them into ValueError.
    assert outcome.kind == "error" or json.loads(outcome.output)[0] == "refused"


async def test_thread_cannot_start(cells):
    code = source("load('threading').Thread(target=print).start()")
    outcome = await cells.one(code, None)
    assert (outcome.kind, outcome.error_type) == ("error", "RuntimeError")


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


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (b"[1,\n2]", "invalid_result"),
        (b"NaN", "invalid_result"),
        (b"99999999999999999999", "invalid_result"),
        (b'"\\ud800"', "invalid_result"),
        (b"\xff", "invalid_result"),
        (b"", "invalid_result"),
        (b"[" * 5000 + b"]" * 5000, "invalid_result"),
        (b'"' + b"x" * 600_000 + b'"', "output_too_large"),
        (b'{"a": 1}', "success"),
    ],
)
async def test_forged_result_is_checked_by_the_host(cells, output, kind):
    code = source(f"""frame = sys._getframe()
    while frame and 'nonce' not in frame.f_locals: frame = frame.f_back
    nonce = frame.f_locals['nonce'].to_bytes(8, 'little')
    output = {output!r}
    one = b'\\x91\\x93\\x00\\x01\\xc6' + len(output).to_bytes(4, 'big') + output
    data = memoryview(len(one).to_bytes(4, 'little') + nonce + one)
    while data: data = data[os.write(3, data):]
    while True: pass""")
    outcome = await cells.one(code, "attack", timeout_ms=500)
    assert outcome.kind == kind, outcome
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


async def test_shrinking_the_progress_page_is_refused(cells):
    """The page is closed and sealed: a host that reads a shrunk mapping would die of SIGBUS."""
    code = source("return [os.ftruncate(fd, 0) for fd in range(4, 32)]")
    assert (await cells.value(code))[0] == "refused"


async def test_patched_builtins_stay_in_their_executor(cells):
    code = source("""sys.modules['json'].loads = lambda *_: 'sane?'
    sys.modules['builtins'].len = lambda _: 0
    return 1""")
    await cells.one(code, "attack", isolation="call")
    assert await cells.value(code, "sane?", isolation="call") == "sane"
    neighbour = "def run(value):\n    return len(value)\n"
    assert await cells.value(neighbour, [1, 2], tenant="neighbour") == 2
