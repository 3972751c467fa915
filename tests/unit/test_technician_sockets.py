"""Where the technician's page may listen: loopback and the USB gadget, never the shop's network."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess

import pytest
from pydantic import ValidationError

from edge.config import TechnicianSettings
from edge.terminal.sockets import hosts_of, is_private, technician_sockets

GADGET = "169.254.77.1"


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "192.168.1.5", "10.0.0.1", "169.255.1.1", "169.254.1.300", "fe80::1", "::", "example.com"]
)
def test_an_address_that_is_not_link_local_is_no_setting(address: str) -> None:
    with pytest.raises(ValidationError):
        TechnicianSettings(gadget_address=address)


@pytest.mark.parametrize("name", ["eth0", "wlan0", "usb", "usb0:1", "lo", ""])
def test_an_interface_that_is_no_gadget_is_no_setting(name: str) -> None:
    with pytest.raises(ValidationError):
        TechnicianSettings(gadget_address=GADGET, gadget_interface=name)


def test_loopback_is_private_and_every_address_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own, socket.create_server(("0.0.0.0", 0)) as every:
        assert is_private(own)
        assert not is_private(every)


def test_an_inherited_socket_on_the_shop_s_network_is_closed_unused() -> None:
    own, every = socket.create_server(("127.0.0.1", 0)), socket.create_server(("0.0.0.0", 0))
    assert technician_sockets(TechnicianSettings(), [own, every]) == [own]
    assert every.fileno() == -1
    assert hosts_of([own]) == {f"{name}:{own.getsockname()[1]}" for name in ("127.0.0.1", "localhost", "[::1]")}
    own.close()


def test_a_port_that_another_terminal_has_is_no_reason_to_stop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert technician_sockets(TechnicianSettings(port=taken.getsockname()[1]), []) == []


def test_link_local_alone_is_not_private_and_the_gadget_s_interface_is() -> None:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making an interface needs root and iproute2")
    with contextlib.ExitStack() as stack:
        for name, address in (("usb9", GADGET), ("vouchshop", "169.254.78.1")):
            made = subprocess.run(["ip", "link", "add", name, "type", "dummy"], check=False, capture_output=True)
            if made.returncode:
                pytest.skip("this machine lets nobody make interfaces")
            stack.callback(subprocess.run, ["ip", "link", "del", name], check=False)
            subprocess.run(["ip", "addr", "add", f"{address}/24", "dev", name], check=True)
            subprocess.run(["ip", "link", "set", name, "up"], check=True)
        settings = TechnicianSettings(port=0, gadget_address=GADGET, gadget_interface="usb9")
        loopback, gadget = technician_sockets(settings, [])
        assert is_private(gadget)
        assert gadget.getsockname()[0] == GADGET
        with socket.create_server(("169.254.78.1", 0)) as shop:
            assert not is_private(shop)
        for sock in (loopback, gadget):
            sock.close()
