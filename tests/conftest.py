"""What several test rooms share: the optional data folder, and how long a generated example may take."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """A time limit on each generated example fails where the machine is busy; the test's own limit stays."""
    settings.register_profile("vouch", deadline=None)
    settings.load_profile("vouch")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of faces, clips, teachers and vectors; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("VOUCH_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder} (name one with VOUCH_DATA)")
    return folder
