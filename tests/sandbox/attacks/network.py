"""The network: no socket of any family, no name looked up, only frames on the data socket."""

from tests.sandbox.attacks.attack import ends, refused

_FAMILIES = {
    "inet": "socket.AF_INET",
    "inet6": "socket.AF_INET6",
    "unix": "socket.AF_UNIX",
    "vsock": "socket.AF_VSOCK",
    "can": "socket.AF_CAN, socket.SOCK_RAW",
    "alg": "socket.AF_ALG, socket.SOCK_SEQPACKET",
    "netlink": "socket.AF_NETLINK, socket.SOCK_RAW",
    "packet": "socket.AF_PACKET, socket.SOCK_RAW",
    "raw": "socket.AF_INET, socket.SOCK_RAW, 1",
    "datagram": "socket.AF_INET, socket.SOCK_DGRAM",
}

# On the only socket that there is. Each would work on some socket.
_BUFFER = "ctypes.create_string_buffer(128)"
_ON_DATA = {
    "the data socket is not connected elsewhere": "42, 3, b'\\1\\0\\0abstract', 11",
    "the data socket takes no abstract name": "49, 3, b'\\1\\0\\0abstract', 11",
    "the data socket takes no name": "49, 3, b'\\1\\0/tmp/attack-socket', 20",
    "the data socket does not listen": "50, 3, 1",
    "the data socket accepts nobody": "43, 3, None, None",
    "no descriptor is received": f"47, 3, {_BUFFER}, 0",
    "no descriptor is sent": f"46, 3, {_BUFFER}, 0",
    "nothing is sent but by frames": "44, 3, b'x', 1, 0, None, 0",
    "nothing is received but by frames": f"45, 3, {_BUFFER}, 1, 0x40, None, None",
    "many messages are not sent at once": f"307, 3, {_BUFFER}, 1, 0",
    "many messages are not received at once": f"299, 3, {_BUFFER}, 1, 0x40, None",
    "the peer is not asked who it is": f"55, 3, 1, 17, {_BUFFER}, bytes(4)",
    "the data socket is not shut down": "48, 3, 2",
    "the peer has no name": f"52, 3, {_BUFFER}, bytes(4)",
    "no descriptor is watched": f"7, {_BUFFER}, 1, 0",
    "no set of descriptors is watched": "213, 1",
}

ATTACKS = (
    *(
        refused(f"no {name} socket is opened", f"socket.socket({family})")
        for name, family in _FAMILIES.items()
    ),
    *(refused(name, f"call({arguments})") for name, arguments in _ON_DATA.items()),
    refused("no pair of sockets is made", "socket.socketpair()"),
    refused("no abstract socket is connected", "socket.socket(socket.AF_UNIX).connect('\\0x')"),
    refused("no connection is made", "socket.create_connection(('127.0.0.1', 4222))"),
    refused(
        "no local name is resolved",
        "return socket.getaddrinfo('localhost', 80)",
        by=["gaierror", "EPERM"],
    ),
    refused(
        "no name is resolved",
        "return socket.gethostbyname('example.org')",
        by=["gaierror", "herror", "EPERM"],
    ),
    refused(
        "no page is fetched",
        "load('urllib.request').request.urlopen('http://127.0.0.1:8080/health')",
        by=["URLError"],
    ),
    ends(
        "no event loop is started",
        "load('asyncio').new_event_loop()",
        "error",
        error="ImportError",
    ),
)
