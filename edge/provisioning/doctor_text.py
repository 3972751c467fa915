"""The doctor's report as lines of text, and as a file to take along; what is in it, examination.py says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edge.errors import ConfigError
from edge.provisioning.doctor import Verdict

_MARKS = {
    Verdict.PASS: {"en": "pass", "zh": "通过"},
    Verdict.WARN: {"en": "WARN", "zh": "注意"},
    Verdict.FAIL: {"en": "FAIL", "zh": "故障"},
    Verdict.SKIP: {"en": "  - ", "zh": " -- "},
}


def language_of(environment: Mapping[str, str]) -> str:
    """By the locale: "zh" where it is Chinese, else "en"."""
    locale = environment.get("LC_ALL") or environment.get("LC_MESSAGES") or environment.get("LANG") or ""
    return "zh" if locale.lower().startswith("zh") else "en"


def lines(report: Mapping[str, Any], language: str) -> list[str]:
    """A line for each check, and below it what to do."""
    told = []
    for check in report["checks"]:
        mark = _MARKS[Verdict(check["verdict"])][language]
        told.append(f"{mark}  {_padded(check['title'][language], 22)} {check['says'][language]}")
        if check["todo"] is not None and check["verdict"] != Verdict.PASS.value:
            told.append(f"      -> {check['todo'][language]}")
    counts = {verdict: sum(check["verdict"] == verdict.value for check in report["checks"]) for verdict in Verdict}
    summary = ", ".join(f"{count} {_MARKS[verdict][language].strip()}" for verdict, count in counts.items() if count)
    return [*told, "", summary]


@contextmanager
def export(place: Path, terminal_id: str) -> Iterator[Callable[[Mapping[str, Any]], Path]]:
    """A new file for a report, made now: in a folder under a name of its own, else as named; an old one stays.

    Gives what writes the report there, as JSON, and returns where. Made now, because an examination takes 30 s and
    turns root into the terminal's user, to whom root's stick is closed. Without a whole report the file is removed;
    where that is no longer allowed it stays, empty. ConfigError, here or from the writing: it cannot be written.
    """
    with _said(place):
        if place.is_dir():
            made = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
            place /= f"vouch-doctor-{terminal_id[:8]}-{made}.json"
        number = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    whole = False

    def write(report: Mapping[str, Any]) -> Path:
        nonlocal whole
        with _said(place), open(number, "w", encoding="utf-8", closefd=False) as file:
            file.write(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
            file.flush()
            os.fsync(number)
        whole = True
        return place

    try:
        yield write
    finally:
        if not whole:  # also a stick that is full, or pulled out, in the middle
            with suppress(OSError):
                os.ftruncate(number, 0)
            with suppress(OSError):
                place.unlink()
        os.close(number)


@contextmanager
def _said(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConfigError(
            f"{place} cannot be written: {exc.strerror}", todo="name a new file, or a folder such as the USB stick's"
        ) from exc


def _padded(text: str, width: int) -> str:
    """Chinese characters are two columns wide."""
    columns = sum(2 if ord(letter) > 0x2E7F else 1 for letter in text)
    return text + " " * max(0, width - columns)
