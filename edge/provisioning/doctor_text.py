"""The doctor's report as lines of text, and as a file to take along; what is in it, examination.py says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
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


def export(report: Mapping[str, Any], place: Path) -> Path:
    """Write the report as JSON, and return where: into a folder under a name of its own, else as the file named.

    ConfigError where it cannot be written: no half of it stays there. An existing file is never replaced.
    """
    whole = json.dumps(report, ensure_ascii=False, indent=1) + "\n"
    if place.is_dir():
        made = time.strftime("%Y%m%d-%H%M%S", time.gmtime(report.get("made_at_s")))
        place /= f"vouch-doctor-{str(report.get('terminal_id', 'unknown'))[:8]}-{made}.json"
    try:
        with place.open("x", encoding="utf-8") as file, _whole_or_gone(place):
            file.write(whole)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise ConfigError(
            f"{place} cannot be written: {exc.strerror}", todo="name a new file, or a folder such as the USB stick's"
        ) from exc
    return place


@contextmanager
def _whole_or_gone(place: Path) -> Iterator[None]:
    """A stick that is full, or pulled out, in the middle."""
    try:
        yield
    except OSError:
        with suppress(OSError):
            place.unlink()
        raise


def _padded(text: str, width: int) -> str:
    """Chinese characters are two columns wide."""
    columns = sum(2 if ord(letter) > 0x2E7F else 1 for letter in text)
    return text + " " * max(0, width - columns)
