"""Processes: making them, signalling and reading them, namespaces, and the kernel's other doors."""

from tests.sandbox.attacks.attack import ends, refused

_BUFFER = "ctypes.create_string_buffer(128)"

STARTING = {
    "no process is forked": "os.fork()",
    "no process is forked by its number": "call(57)",
    "no process is forked in place": "call(58)",
    "no process is cloned": "call(56, 0x11, 0, 0, 0, 0)",
    "no process is cloned the new way": f"call(435, {_BUFFER}, 88)",
    "no thread is cloned": "call(56, 0x10F00, 0, 0, 0, 0)",
    "no program is executed": "os.execv(host['python'], ['python'])",
    "no descriptor is executed": "call(322, 3, b'', None, None, 0x1000)",
    "no process is spawned": "os.posix_spawn(host['python'], ['python'], {})",
    "no session is started": "os.setsid()",
    "no group is started": "os.setpgid(0, 0)",
    "no pipe is made": "os.pipe()",
}

SIGNALLING = {
    "init is not killed": "os.kill(1, signal.SIGKILL)",
    "init is not probed": "os.kill(1, 0)",
    "everything is not killed": "os.kill(-1, signal.SIGKILL)",
    "its group is not killed": "os.killpg(0, signal.SIGKILL)",
    "the worker is not killed": "os.kill(host['pid'], signal.SIGKILL)",
    "it does not stop itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "no thread is killed": "call(234, 1, 1, 9)",
    "no signal is queued": f"call(129, 1, 9, {_BUFFER})",
    "no signal is sent by descriptor": "call(424, 3, 9, None, 0)",
    "no alarm but the known timer is set": "call(37, 1)",
    "no other's end is awaited": "os.waitpid(-1, 0)",
}

READING = {
    "init is not traced": "call(101, 16, 1, 0, 0)",
    "it is not traced by its parent": "call(101, 0, 0, 0, 0)",
    "init's memory is not read": "call(310, 1, 0, 0, 0, 0, 0)",
    "init's memory is not written": "call(311, 1, 0, 0, 0, 0, 0)",
    "init's descriptor is not taken": "call(438, 3, 3, 0)",
    "no process gets a descriptor": "os.pidfd_open(1)",
    "no processes are compared": "call(312, 1, 2, 0, 0, 0)",
    "no memory of another is advised": "call(440, 3, 0, 0, 4, 0)",
    "no page is moved": "call(279, 1, 1, 0, 0, 0, 0)",
}

NAMESPACES = {
    "no user namespace is made": "call(272, 0x10000000)",
    "no mount namespace is made": "call(272, 0x20000)",
    "no process namespace is made": "call(272, 0x20000000)",
    "no network namespace is made": "call(272, 0x40000000)",
    "no namespace is entered": "call(308, 3, 0)",
    "it does not become root": "os.setuid(0)",
    "it does not become another": "os.setresuid(1, 1, 1)",
    "it does not join a group": "os.setgroups([0])",
    "it takes no capability": f"call(126, {_BUFFER}, {_BUFFER})",
    "the hostname is not changed": "socket.sethostname('mine')",
    "the domain is not changed": "call(171, b'mine', 4)",
}

DOORS = {
    "no ring is set up": f"call(425, 8, {_BUFFER})",
    "no ring is entered": "call(426, 3, 1, 1, 0, 0)",
    "no ring is registered": "call(427, 3, 0, 0, 0)",
    "no map for the kernel is made": f"call(321, 0, {_BUFFER}, 128)",
    "no program for the kernel is loaded": f"call(321, 5, {_BUFFER}, 128)",
    "no key is looked up": "call(250, 0, -3, 1)",
    "no key is added": "call(248, b'user', b'a', b'b', 1, -3)",
    "no key is asked for": "call(249, b'user', b'a', None, -3)",
    "no performance counter is opened": f"call(298, {_BUFFER}, 0, -1, -1, 0)",
    "no page fault is handled by it": "call(323, 0)",
    "no setting of the process is changed": "call(157, 4, 1, 0, 0, 0)",
    "no other filter is installed": "call(317, 1, 0, None)",
    "no ruleset is made": "call(444, None, 0, 1)",
    "its personality is not changed": "call(135, 0x40000)",
    "its segments are not changed": "call(154, 1, None, 0)",
    "its segment base is not moved": "call(158, 0x1002, 0)",
    "no port of the machine is opened": "call(172, 3)",
    "no module is loaded": "call(175, None, 0, b'')",
    "no other kernel is started": "call(246, 0, 0, None, 0)",
    "the machine is not rebooted": "call(169, 0xFEE1DEAD, 672274793, 0x1234567, None)",
    "the kernel log is not read": f"call(103, 3, {_BUFFER}, 64)",
    "no swap is switched off": "call(168, b'/tmp')",
    "the clock is not set": "time.clock_settime(time.CLOCK_REALTIME, 0)",
    "its priority is not raised": "os.nice(-5)",
    "its scheduler is not chosen": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    "its processors are not chosen": "os.sched_setaffinity(0, [0])",
    "its memory is not locked": "call(151, 1)",
    "no shared memory is attached": "call(29, 0, 4096, 0o1777)",
    "no semaphore is made": "call(64, 0, 1, 0o1777)",
    "no message queue is made": "call(68, 0, 0o1777)",
    "no named message queue is opened": "call(240, b'queue', 0o102, 0o600, None)",
    "no event descriptor is made": "os.eventfd(0)",
    "no descriptor is duplicated": "os.dup(3)",
    "no descriptor is put over another": "os.dup2(0, 3)",
    "no setting of a descriptor is changed": "call(72, 3, 4, 0o4000)",
    "the data socket is not spliced": "call(275, 3, None, 0, None, 10, 0)",
}

LIMITS = {
    f"the limit {name} is not raised": f"call(302, 0, {number}, (2**40).to_bytes(8, 'little') * 2)"
    for name, number in {
        "AS": 9,
        "NOFILE": 7,
        "NPROC": 6,
        "FSIZE": 1,
        "STACK": 3,
        "CORE": 4,
    }.items()
} | {"no limit is raised the old way": "call(160, 9, (2**40).to_bytes(8, 'little') * 2)"}

EXECUTABLE = {
    "no memory is mapped to write and execute": "mmap.mmap(-1, 4096, prot=7)",
    "no memory is mapped to execute": "mmap.mmap(-1, 4096, prot=5)",
    "no memory is made executable": "call(10, ctypes.c_void_p(id(host) & ~4095), 4096, 5)",
    "no memory is made executable with a key": (
        "call(329, ctypes.c_void_p(id(host) & ~4095), 4096, 5, -1)"
    ),
    "no file is mapped to execute": "mmap.mmap(os.open(os.__file__, 0), 4096, flags=2, prot=5)",
    "no memory file is made": "os.memfd_create('code')",
    "no secret memory is made": "call(447, 0)",
}

_GROUPS = (STARTING, SIGNALLING, READING, NAMESPACES, DOORS, LIMITS, EXECUTABLE)

ATTACKS = (
    *(refused(name, body) for group in _GROUPS for name, body in group.items()),
    refused(
        "no library is loaded",
        "ctypes.CDLL(host['stdlib'] + '/lib-dynload/_ctypes_test.so')",
        by=["OSError"],
    ),
    ends(
        "no thread is started",
        "load('threading').Thread(target=print).start()",
        "error",
        error="RuntimeError",
    ),
    ends(
        "no bare thread is started",
        "load('_thread').start_new_thread(print, ())",
        "error",
        error="RuntimeError",
    ),
    ends(
        "no pool of threads is started",
        "load('concurrent.futures').futures.ThreadPoolExecutor().submit(print)",
        "error",
        error="RuntimeError",
    ),
    refused("no pseudo-terminal is forked", "os.forkpty()", by=["EPERM", "EACCES", "ENOENT"]),
    *(
        # Where their C part is no part of the interpreter, it is not even loaded.
        ends(name, body, "error")
        for name, body in {
            "no subprocess is run": "load('subprocess').run([host['python']])",
            "no worker process is started": "load('multiprocessing').Process(target=print).start()",
        }.items()
    ),
    ends("no shell is run", "return 'done' if os.system('true') else 1 / 0", "success"),
    ends("a call of the x32 table kills", "return libc.syscall(0x40000000 + 39)", "killed"),
    ends("a jump into data kills", "ctypes.CFUNCTYPE(None)(id(host))()", "killed"),
    ends("a daemon does not live on", "\nif os.fork() == 0:\n    while True: pass", "error"),
)
