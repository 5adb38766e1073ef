"""What a program can learn of where it runs: /proc, environment, arguments, names, descriptors."""

from tests.sandbox.attacks.attack import HIDDEN, gives, refused

_PROC = {
    "processes cannot be listed": "os.listdir('/proc')",
    "its environment file cannot be read": "open('/proc/self/environ', 'rb').read()",
    "its command line cannot be read": "open('/proc/self/cmdline', 'rb').read()",
    "its memory map cannot be read": "open('/proc/self/maps').read()",
    "its memory cannot be opened": "open('/proc/self/mem', 'r+b')",
    "its descriptors cannot be listed": "os.listdir('/proc/self/fd')",
    "its descriptors cannot be listed elsewhere": "os.listdir('/dev/fd')",
    "init's root cannot be entered": "os.listdir('/proc/1/root')",
    "the worker's environment cannot be read": "open(f'/proc/{host[\"pid\"]}/environ').read()",
    "the mounts cannot be read": "open('/proc/self/mountinfo').read()",
    "the kernel's settings cannot be read": "open('/proc/sys/kernel/hostname').read()",
    "the control groups cannot be read": "os.listdir('/sys/fs/cgroup')",
}

_CALLS = {
    "the host's name is not told": "os.uname()",
    "the name of the host is not told to a socket": "socket.gethostname()",
    "the load of the host is not told": "os.getloadavg()",
    "the memory of the host is not told": "call(99, ctypes.create_string_buffer(128))",
    "the processors of the host are not told": "os.sched_getaffinity(0)",
    "its parent is not told": "call(110)",
    "its group is not told": "os.getpgid(0)",
    "its session is not told": "os.getsid(0)",
    "its groups are not told": "os.getgroups()",
    "its capabilities are not told": "call(125, bytes(8), ctypes.create_string_buffer(24))",
    "its use of resources is not told": "load('resource').getrusage(0)",
}

_DESCRIPTORS = """
found = []
for fd in range(1000):
    try:
        os.fstat(fd)
    except OSError:
        continue
    found.append(fd)
return found"""

_STRINGS = """
found = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ')
names = []
while found and found[len(names)]:
    names.append(found[len(names)].decode())
return names"""

ATTACKS = (
    *(refused(name, body, by=HIDDEN) for name, body in _PROC.items()),
    *(refused(name, body, by=["EPERM", "ENOENT", "OSError"]) for name, body in _CALLS.items()),
    gives("the environment is empty", "return dict(os.environ)", {}),
    gives("the environment is empty for C code too", _STRINGS, []),
    gives("the arguments are empty", "return sys.argv", [""]),
    gives(
        "no argument of the interpreter is a path of the worker's",
        "return [a for a in sys.orig_argv if os.path.dirname(host['file']) in a or 'token' in a]",
        [],
    ),
    gives("the working directory is none of the host's", "return os.getcwd()", "/"),
    gives("its pid is of a small world", "return 1 < os.getpid() < 1000", value=True),
    gives(
        "no descriptor but null and the data socket is open",
        _DESCRIPTORS,
        [0, 1, 2, 3],
        alone=True,  # those of earlier calls are a shared program's own
    ),
    gives("the standard input is empty", "return os.read(0, 10).decode()", ""),
    gives("the standard output leads nowhere", "return os.write(1, b'x') + os.write(2, b'x')", 2),
    gives(
        "no environment that it sets stays",
        "before = dict(os.environ)\nos.environ['LEFT'] = '1'\nreturn before",
        {},
    ),
)
