"""What several test rooms share: the optional data folder."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of faces, clips, teachers and vectors; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("VOUCH_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder} (name one with VOUCH_DATA)")
    return folder
