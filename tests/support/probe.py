"""What a process may do from inside a unit's sandbox: it tries, and prints each attempt's outcome as one JSON object.

Standard library alone. `ok`, or the name of the error; run as
`probe.py BROKER RESOLVER PID PATH...`, the first two as ADDRESS:PORT.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

_PTRACE_ATTACH = 16


def tried(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "ok"


def system_call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def main(broker: str, resolver: str, other: int, paths: list[str]) -> dict[str, object]:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    families = ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_VSOCK", "AF_BLUETOOTH", "AF_ALG", "AF_CAN")
    return {
        "user": os.getuid(),
        "socket": {name: tried(lambda n=name: socket.socket(getattr(socket, n), kind(n))) for name in families},
        "packet socket": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        "raw socket": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
        "interfaces": interfaces(),
        "broker": reached(broker),
        "resolver": reached(resolver),
        "kiosk page": reached("127.0.0.1:8080"),
        "technician's page": reached("127.0.0.1:8081"),
        "technician's page by USB": reached("169.254.77.1:8081"),
        "listen": tried(lambda: socket.create_server(("0.0.0.0", 0))),
        "devices": sorted(str(path) for path in Path("/dev").iterdir()),
        "read": {path: tried(lambda p=path: os.close(os.open(p, os.O_RDONLY | os.O_NONBLOCK))) for path in paths},
        "write": {
            folder: tried(lambda f=folder: os.close(os.open(f"{f}/probe", os.O_WRONLY | os.O_CREAT)))
            for folder in ("/etc/vouch", "/usr/bin", "/opt/vouch", "/home", "/var/lib", "/tmp")
        },
        "other processes": [
            int(path.name) for path in Path("/proc").glob("[0-9]*") if path.stat().st_uid != os.getuid()
        ],
        "signal": tried(lambda: os.kill(other, signal.SIGCONT)),
        "trace": tried(lambda: system_call("ptrace", _PTRACE_ATTACH, other, 0, 0)),
        "mount": tried(lambda: system_call("mount", b"tmpfs", b"/tmp", b"tmpfs", 0, None)),
        "new user namespace": tried(lambda: system_call("unshare", 0x10000000)),
        "device node": tried(lambda: os.mknod("/tmp/node", 0o20666, os.makedev(81, 0))),
        "be root": tried(lambda: os.setuid(0)),
        "writable code": tried(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
        "swap on": tried(lambda: system_call("swapon", b"/tmp/swap", 0)),
        "core bytes": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
        "no new privileges": status["NoNewPrivs"],
        "system calls filtered": status["Seccomp"],
    }


def reached(where: str) -> str:
    """`ok`, the name of the error, or `timed out`: a packet that is not let through is answered by nobody."""
    address, port = where.split(":")
    return tried(lambda: socket.create_connection((address, int(port)), timeout=5))


def interfaces() -> list[str] | None:
    """Names of the network's interfaces; None where /proc does not show them."""
    shown = Path("/proc/net/dev")
    return [line.split(":")[0].strip() for line in shown.read_text().splitlines()[2:]] if shown.exists() else None


def kind(family: str) -> int:
    return (
        socket.SOCK_SEQPACKET
        if family in ("AF_ALG", "AF_BLUETOOTH")
        else (socket.SOCK_RAW if family in ("AF_NETLINK", "AF_CAN") else socket.SOCK_STREAM)
    )


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])))
