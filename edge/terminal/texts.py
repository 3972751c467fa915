"""The consent text in every language, and its digest for the claim; the other words of the page live in static/."""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import Path

STATIC = Path(__file__).resolve().parent / "static"


class Language(Enum):
    """Values are BCP 47 tags; each has a file `consent.<tag>.txt` in static/."""

    EN = "en"
    ZH = "zh"


def consent_text(language: Language) -> str:
    """What the person is asked to agree to: plain text, paragraphs separated by an empty line."""
    return (STATIC / f"consent.{language.value}.txt").read_text(encoding="utf-8").strip()


def consent_digest(language: Language) -> bytes:
    """SHA-256 of the text's UTF-8 bytes: claim -70011."""
    return hashlib.sha256(consent_text(language).encode()).digest()
