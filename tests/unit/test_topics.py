"""The names of topics: ours are understood, anybody else's are not."""

import pytest

from edge.ipc import Down, Up
from edge.uplink.topics import publish_topic, received, subscriptions

TERMINAL = "0" * 32


def test_every_topic_has_four_levels_and_names_the_terminal():
    topics = [publish_topic(TERMINAL, topic) for topic in Up] + subscriptions(TERMINAL)
    assert all(topic.split("/")[2:3] == [TERMINAL] and topic.count("/") == 3 for topic in topics)
    assert len(set(topics)) == len(Up) + len(Down)


@pytest.mark.parametrize("topic", Down)
def test_what_we_subscribe_to_is_understood(topic):
    assert received(TERMINAL, f"fv1/dn/{TERMINAL}/{topic.value}") is topic


@pytest.mark.parametrize(
    "topic",
    ["", "fv1/dn/x/receipt", f"fv1/dn/{TERMINAL}/", f"fv1/dn/{TERMINAL}/receipt/x", f"fv1/up/{TERMINAL}/receipt"],
)
def test_anything_else_is_not_ours(topic):
    assert received(TERMINAL, topic) is None
