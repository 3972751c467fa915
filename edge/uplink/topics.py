"""The names of our topics: four levels, `fv1/up/<terminal>/...` and `fv1/dn/<terminal>/...`; no client, no payload."""

from __future__ import annotations

from edge.ipc import Down, Up

_ROOT = "fv1"


def publish_topic(terminal_id: str, topic: Up) -> str:
    return f"{_ROOT}/up/{terminal_id}/{topic.value}"


def subscriptions(terminal_id: str) -> list[str]:
    """Every topic that we listen to, spelled out: no wildcard, so that a broker's rule can name each."""
    return [f"{_ROOT}/dn/{terminal_id}/{topic.value}" for topic in Down]


def received(terminal_id: str, topic: str) -> Down | None:
    """Which of our topics this is; None for anybody else's."""
    prefix = f"{_ROOT}/dn/{terminal_id}/"
    if not topic.startswith(prefix):
        return None
    try:
        return Down(topic.removeprefix(prefix))
    except ValueError:
        return None
