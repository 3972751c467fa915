"""Figures as JSON for other programs; what they mean and how people read them is not known here."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def as_json(found: DataclassInstance) -> str:
    """JSON has no infinity and no NaN (RFC 8259 section 6): null stands where there is no finite number."""
    return json.dumps(_finite(asdict(found)), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
