"""What a release is: `release.json`, one TUF target that names the others; how it is fetched and verified is not here.

    {"format": 1, "release": 7, "pack": ["pack.toml", "detector.tflite", ...], "policy": true}

`release` only rises: a terminal never goes below the one in force. The files of the pack are the targets `pack/<name>`,
a policy is the target `policy.cose`, as the carrier signed it. TUF says of each its length and hash.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from edge.errors import UpdateError, UpdateFault

RELEASE_TARGET = "release.json"
POLICY_TARGET = "policy.cose"
MANIFEST_FILE = "pack.toml"
RELEASE_LIMIT = 4096  # bytes
POLICY_LIMIT = 4096  # bytes: as any message of the carrier

PackFile = Annotated[str, StringConstraints(pattern=r"^(pack\.toml|[A-Za-z0-9][A-Za-z0-9_.-]{0,80}\.tflite)$")]


class Release(BaseModel):
    """A release as it was signed. An empty `pack` leaves the pack in force; without a policy that one stays."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    release: int = Field(ge=1, le=2**31 - 1)
    pack: Annotated[list[PackFile], Field(max_length=16)]
    policy: bool

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.pack)) != len(self.pack):
            raise ValueError("pack names a file twice")
        if self.pack and MANIFEST_FILE not in self.pack:
            raise ValueError(f"pack lacks {MANIFEST_FILE}")
        if not self.pack and not self.policy:
            raise ValueError("neither pack nor policy")
        return self

    def targets(self) -> list[str]:
        """Every target but release.json itself."""
        return [f"pack/{name}" for name in self.pack] + ([POLICY_TARGET] if self.policy else [])


def parse_release(raw: bytes) -> Release:
    """UpdateError (MALFORMED) says which field does not fit. Nothing else comes out, whatever the bytes are."""
    try:
        return Release.model_validate_json(raw)
    except ValidationError as exc:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors(include_input=False)[:5])
        raise UpdateError(
            UpdateFault.MALFORMED,
            f"{RELEASE_TARGET}: {wrong}",
            todo="the carrier must publish the release again, with a tool of this version",
        ) from exc
