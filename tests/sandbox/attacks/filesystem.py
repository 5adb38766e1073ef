"""Files: the host's, the interpreter's, the runner's, links, mounts, and filling the disk."""

from tests.sandbox.attacks.attack import HIDDEN, SEALED, gives, refused

_INIT = "/cell/loopai/sandbox/inside/init.py"
_PLACES = """
found = []
folders = ["/", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/run", "/cell", "/root", os.getcwd()]
for folder in [*folders, host["stdlib"], os.path.dirname(host["python"])]:
    try:
        os.close(os.open(folder + "/attack-file", os.O_CREAT | os.O_WRONLY))
    except OSError:
        continue
    found.append(folder)
return found"""
_HANDLE = "ctypes.create_string_buffer(64)"

READING = (
    refused("a file of the host cannot be read", "open(host['file']).read()", by=HIDDEN),
    refused("the runner's source cannot be read", f"open({_INIT!r}).read()", by=HIDDEN),
    refused(
        "the runner's source cannot be read where its modules say that it lies",
        "open(sys.modules['loopai.sandbox.inside.python'].__file__).read()",
        by=HIDDEN,
    ),
    refused(
        "the runner's source cannot be read from a descriptor of the root",
        f"root = os.open('/', os.O_PATH)\nos.open({_INIT[1:]!r}, os.O_RDONLY, dir_fd=root)",
        by=HIDDEN,
    ),
    refused("the root cannot be listed", "os.listdir('/')", by=HIDDEN),
    refused("root's home cannot be listed", "os.listdir('/root')", by=HIDDEN),
    refused("the devices cannot be listed", "os.listdir('/dev')", by=HIDDEN),
    refused("sysfs cannot be listed", "os.listdir('/sys')", by=HIDDEN),
    refused("the list of users cannot be read", "open('/etc/passwd').read()", by=HIDDEN),
    refused(
        "the list of users cannot be read past the interpreter's files",
        "open(host['stdlib'] + '/..' * 20 + '/etc/passwd').read()",
        by=HIDDEN,
    ),
    refused(
        "installed packages cannot be read",
        "os.open(host['stdlib'] + '/site-packages/README.txt', os.O_RDONLY)",
        by=HIDDEN,
    ),
    gives(
        "installed packages cannot be listed",
        "folder = host['stdlib'] + '/site-packages'\n"
        "return os.listdir(folder) if os.path.isdir(folder) else []",
        [],
    ),
    *(
        refused(f"{device} cannot be opened", f"os.open('{device}', os.O_RDWR)", by=HIDDEN)
        for device in ("/dev/vda", "/dev/mem", "/dev/tty", "/dev/ptmx", "/dev/fuse", "/dev/kvm")
    ),
    refused("a file cannot be opened by its handle", f"call(304, -100, {_HANDLE}, 0)"),
    refused("a file has no handle", f"call(303, -100, b'/tmp', {_HANDLE}, {_HANDLE}, 0)"),
    refused("files cannot be watched", "call(294, 0)"),
    refused("all files of a mount cannot be watched", "call(300, 0, 0)"),
)

WRITING = (
    refused("no file is made at the root", "open('/attack-file', 'w')", by=SEALED),
    refused("no directory is made at the root", "os.mkdir('/attack-folder')", by=SEALED),
    refused(
        "no file is made beside the interpreter's",
        "open(host['stdlib'] + '/json/attack-file.py', 'w')",
        by=SEALED,
    ),
    refused(
        "no compiled file is put in place of the interpreter's",
        "open(host['stdlib'] + '/json/__pycache__/decoder.cpython-311.pyc', 'wb')",
        by=SEALED,
    ),
    refused(
        "a file of the interpreter is not changed",
        "open(host['stdlib'] + '/json/__init__.py', 'r+')",
        by=SEALED,
    ),
    refused(
        "a file of the interpreter is not cut",
        "os.truncate(host['stdlib'] + '/json/__init__.py', 0)",
        by=SEALED,
    ),
    refused(
        "a file of the interpreter is not deleted",
        "os.unlink(host['stdlib'] + '/json/__init__.py')",
        by=SEALED,
    ),
    refused(
        "a file of the interpreter is not moved",
        "os.rename(host['stdlib'] + '/json/__init__.py', '/tmp/attack-file')",
        by=(*SEALED, "EXDEV"),
    ),
    refused("the random device is not fed", "os.open('/dev/urandom', os.O_WRONLY)", by=SEALED),
    refused("no shared memory file is made", "open('/dev/shm/attack-file', 'w')", by=SEALED),
    refused("the host's file is not overwritten", "open(host['file'], 'w')", by=SEALED),
)

LINKS = (
    refused("no hard link is made", "os.link(host['stdlib'] + '/os.py', '/tmp/attack-link')"),
    refused(
        "no hard link is made to a descriptor",
        "call(265, os.open(host['stdlib'] + '/os.py', 0), b'', -100, b'/tmp/attack-link', 0x1000)",
    ),
    refused("no symbolic link is made", "os.symlink('/', '/tmp/attack-link')"),
    refused("no symbolic link is made by its number", "call(266, b'/', -100, b'/tmp/attack-link')"),
    refused("no fifo is made", "os.mkfifo('/tmp/attack-fifo')"),
    refused("no device is made", "os.mknod('/tmp/attack-disk', 0o60666, os.makedev(8, 0))"),
    refused("no socket is made as a file", "os.mknod('/tmp/attack-socket', 0o140666)"),
    refused(
        "no file becomes one that changes its user",
        "os.chmod('/tmp', 0o6777)",
    ),
    refused("no file is given away", "os.chown('/tmp', 0, 0)"),
    refused("no attribute is set", "os.setxattr('/tmp', 'user.a', b'b')"),
    refused("no time of a file is changed", "os.utime('/tmp', (0, 0))"),
    refused("the terminal gets no input", "call(16, 0, 0x5412, b'x')"),
)

MOUNTS = (
    refused("nothing is mounted", "call(165, b'none', b'/tmp', b'tmpfs', 0, None)"),
    refused("nothing is mounted a second time", "call(165, b'/', b'/tmp', None, 0x5000, None)"),
    refused("the root is not made writable", "call(165, None, b'/', None, 0x1020, None)"),
    refused("nothing is unmounted", "call(166, b'/tmp', 2)"),
    refused("the root is not pivoted", "call(155, b'/tmp', b'/tmp')"),
    refused("the root is not changed", "os.chroot('/tmp')"),
    refused("no file system is opened", "call(430, b'tmpfs', 0)"),
    refused("no tree of mounts is opened", "call(428, -100, b'/', 1)"),
    refused("no mount is moved", "call(429, -100, b'/tmp', -100, b'/', 0)"),
    refused("no attribute of a mount is set", "call(442, -100, b'/', 0, bytes(32), 32)"),
)

_FILE = "os.open('/tmp/attack-file', os.O_RDWR | os.O_CREAT)"

# Nothing in a cell can be written, so nothing is left for the next run or for a neighbour.
_DISK = {
    "many files do not fill the disk": (
        "for n in range(100): open(f'/tmp/attack-{n}', 'wb').write(bytes(10**6))"
    ),
    "one file does not fill the disk": "open('/tmp/attack-file', 'wb').write(bytes(17 * 2**20))",
    "a billion bytes are not set aside": f"os.posix_fallocate({_FILE}, 0, 10**9)",
    "a billion bytes are not pretended": f"os.ftruncate({_FILE}, 10**9)",
    "files without content do not fill the kernel's memory": (
        "for n in range(50_000): os.close(os.open(f'/tmp/attack-{n}', os.O_CREAT))"
    ),
    "no file is left for the next run": "open('/tmp/attack-file', 'w').write('left')",
    "no file is left in the working directory": "open('attack-file', 'w').write('left')",
    "no file is left among temporary ones": "open('/var/tmp/attack-file', 'w').write('left')",
    "no directory is left that nobody may list": "os.mkdir('/tmp/attack-folder', 0)",
    "no directories are left, each in the last": (
        "at = os.open('/tmp', os.O_RDONLY)\n"
        "for _ in range(1000):\n"
        "    os.mkdir('attack-folder', dir_fd=at)\n"
        "    at = os.open('attack-folder', os.O_RDONLY, dir_fd=at)"
    ),
    "no file with a hostile name is left": "os.open(b'/tmp/attack-\\xff\\n', os.O_CREAT)",
    "no file without a name is kept": "os.open('/tmp', 0o20000000 | os.O_DIRECTORY | os.O_RDWR)",
    "no temporary file of the library is kept": "load('tempfile').NamedTemporaryFile()",
    "the root is not the working directory": "os.chdir('/')",
}

ATTACKS = (
    *READING,
    *WRITING,
    *LINKS,
    *MOUNTS,
    *(refused(name, body, by=SEALED) for name, body in _DISK.items()),
    gives("no place of the cell can be written", _PLACES, []),
)
