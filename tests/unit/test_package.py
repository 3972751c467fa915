"""The Debian package's own scripts and versions; building and installing it is `make deb` and `make test-arm64`."""

import subprocess
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DEBIAN = REPOSITORY / "systemd" / "debian"


def purge(folder: Path) -> str:
    """Run the package's last script on a root of our own; what it says."""
    script = (DEBIAN / "postrm").read_text().replace("#DEBHELPER#", "")
    for path in ("/etc/vouch", "/var/lib/vouch"):
        assert path in script
        script = script.replace(path, f"{folder}{path}")
    script = script.replace("/var/cache", f"{folder}/var/cache")
    done = subprocess.run(
        ["sh", "-c", script, "postrm", "purge"], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


def test_purge_never_destroys_keys_or_journal(tmp_path: Path) -> None:
    files = [tmp_path / "etc/vouch/terminal/result.key", tmp_path / "var/lib/vouch/journal.sqlite"]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("dear")
    said = purge(tmp_path)
    assert [file.read_text() for file in files] == ["dear", "dear"]
    assert "KEPT" in said
    assert f"rm -r {tmp_path}/etc/vouch {tmp_path}/var/lib/vouch" in said


def test_purge_of_a_terminal_that_never_was_leaves_nothing_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "etc/vouch/terminal").mkdir(parents=True)
    (tmp_path / "var/lib/vouch").mkdir(parents=True)
    assert purge(tmp_path) == ""
    assert not (tmp_path / "etc/vouch").exists()


def test_the_package_has_the_version_of_the_project() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert (DEBIAN / "changelog").read_text().startswith(f"vouch ({version}) ")


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_a_script_of_the_package_is_shell_that_parses_and_keeps_debhelper_s_part(name: str) -> None:
    script = DEBIAN / name
    assert "#DEBHELPER#" in script.read_text()
    assert subprocess.run(["sh", "-n", script], timeout=30, check=False).returncode == 0
