"""Real PKCS#11 tokens for tests: SoftHSM2, and a TPM 2.0 that swtpm emulates behind tpm2-pkcs11.

`softhsm(folder)` and `tpm(folder)` give (module, environment, pin file) or skip with the reason. A module is loaded once
in a process and keeps its environment: tests of a token run `vouch` as a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulator.processes import Child
from tests.support.wires import free_port

PIN = "87654321"
LABEL = "vouch"
_SOFTHSM = [
    Path(folder) / "libsofthsm2.so"
    for folder in ("/usr/lib/softhsm", "/usr/local/lib/softhsm", "/opt/homebrew/lib/softhsm", "/usr/lib64/softhsm")
]


@dataclass(frozen=True)
class TestToken:
    __test__ = False

    module: Path
    environment: dict[str, str]
    pin_file: Path

    @property
    def arguments(self) -> list[str]:
        return ["--pkcs11-module", str(self.module), "--pkcs11-token", LABEL, "--pkcs11-pin-file", str(self.pin_file)]


@contextlib.contextmanager
def softhsm(folder: Path) -> Iterator[TestToken]:
    module = next((path for path in _SOFTHSM if path.exists()), None)
    tool = shutil.which("softhsm2-util")
    if module is None or tool is None:
        pytest.skip("SoftHSM2 is not installed")
    (folder / "tokens").mkdir(parents=True)
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    environment = {"SOFTHSM2_CONF": str(settings)}
    _run([tool, "--init-token", "--free", "--label", LABEL, "--so-pin", PIN, "--pin", PIN], environment)
    yield TestToken(module, environment, _pin_file(folder))


@contextlib.contextmanager
def tpm(folder: Path) -> Iterator[TestToken]:
    modules = sorted(Path("/usr/lib").glob("*/pkcs11/libtpm2_pkcs11.so"))
    if shutil.which("swtpm") is None or shutil.which("tpm2_ptool") is None or not modules:
        pytest.skip("swtpm, libtpm2-pkcs11-1 or libtpm2-pkcs11-tools is not installed")
    state, store = folder / "tpm", folder / "store"
    for path in (state, store):
        path.mkdir(parents=True)
    port = _two_free_ports()
    here = f"port={port},bindaddr=127.0.0.1"
    command = [str(shutil.which("swtpm")), "socket", "--tpm2", "--tpmstate", f"dir={state}"]
    command += ["--seccomp", "action=none"]  # its own filter, which an emulated processor cannot load
    command += ["--server", f"type=tcp,{here}", "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1"]
    child = Child([*command, "--flags", "not-need-init,startup-clear"], folder / "swtpm.log")
    try:
        _wait_for(port + 1)
        tcti = f"swtpm:host=127.0.0.1,port={port}"
        environment = {"TPM2_PKCS11_STORE": str(store), "TPM2_PKCS11_TCTI": tcti, "TPM2TOOLS_TCTI": tcti}
        tools = {**environment, "PATH": f"{_flushing_tools(folder)}:{os.environ['PATH']}"}
        _run(["tpm2_ptool", "init", "--path", str(store)], tools)
        names = ["--pid", "1", "--label", LABEL, "--sopin", PIN, "--userpin", PIN]
        _run(["tpm2_ptool", "addtoken", *names, "--path", str(store)], tools)
        yield TestToken(modules[0], environment, _pin_file(folder))
    finally:
        child.stop()


def _flushing_tools(folder: Path) -> Path:
    """A TPM behind the kernel has a resource manager that forgets what a process loaded; this one has three places."""
    shims = folder / "shims"
    shims.mkdir()
    for tool in Path("/usr/bin").glob("tpm2_*"):
        if tool.name not in ("tpm2_ptool", "tpm2_flushcontext"):
            shim = shims / tool.name
            shim.write_text(f'#!/bin/sh\n{tool} "$@"; code=$?\n/usr/bin/tpm2_flushcontext -t 2>/dev/null\nexit $code\n')
            shim.chmod(0o755)
    return shims


def flush(token: TestToken) -> None:
    """After a process of ours: the kernel would do that."""
    if "TPM2TOOLS_TCTI" in token.environment:
        _run(["tpm2_flushcontext", "-t"], token.environment)


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _pin_file(folder: Path) -> Path:
    path = folder / "pin"
    path.touch(0o600)
    path.write_text(PIN + "\n")
    return path


def _two_free_ports() -> int:
    for _ in range(50):
        port = free_port()
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("no two free ports beside each other")


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError("swtpm does not listen")
