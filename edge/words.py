"""How a member of an enumeration is written for people and in JSON; what the words mean is said elsewhere."""

from enum import Enum


def word_of(member: Enum) -> str:
    """`CheckOutcome.NOT_RUN` as pages, reports and messages write it: `not-run`."""
    return member.name.lower().replace("_", "-")
