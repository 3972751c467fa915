"""The page's socket as systemd hands it over: ours only when it is addressed to this very process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from edge.terminal.sockets import inherited_sockets

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_listening_socket_is_taken_over_from_file_descriptor_3():
    code = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
        "from edge.terminal.sockets import inherited_sockets as i; s = i()['kiosk'][0]; print(s.getsockname()[1], flush=True); s.accept()"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here, port = listener.fileno(), listener.getsockname()[1]
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(here)],
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            pass_fds=(here,),
            text=True,
        )
    assert int(child.stdout.readline()) == port
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        assert child.wait(10) == 0
    child.stdout.close()


def test_a_socket_for_another_process_is_left_alone():
    assert inherited_sockets({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == {}
    assert inherited_sockets({"LISTEN_PID": str(os.getpid())}) == {}
    assert inherited_sockets({}) == {}
