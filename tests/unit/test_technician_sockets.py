"""Where the technician's page may listen: loopback, never the shop's network."""

from __future__ import annotations

import socket

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


def test_loopback_is_private_and_every_address_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own, socket.create_server(("0.0.0.0", 0)) as every:
        assert is_private(own)
        assert not is_private(every)


def test_an_inherited_socket_on_the_shop_s_network_is_closed_unused() -> None:
    own, every = socket.create_server(("127.0.0.1", 0)), socket.create_server(("0.0.0.0", 0))
    assert technician_sockets(TechnicianSettings(), [own, every]) == [own]
    assert every.fileno() == -1
    assert hosts_of([own], None) == {f"{name}:{own.getsockname()[1]}" for name in ("127.0.0.1", "localhost", "[::1]")}
    assert hosts_of([own], GADGET) - hosts_of([own], None) == {f"{GADGET}:{own.getsockname()[1]}"}
    own.close()


def test_a_port_that_another_terminal_has_is_no_reason_to_stop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert technician_sockets(TechnicianSettings(port=taken.getsockname()[1]), []) == []
