"""The README's pictures of the demo: what `make demo` prints, and the carrier's page after it.

`python -m tests.browser.demo_pictures` runs the demo before a terminal of its own and lets the browser draw both.
"""

from __future__ import annotations

import argparse
import html
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.browser.pictures import write
from tests.browser.states import chromium

PICTURES = Path(__file__).resolve().parents[2] / "simulator" / "pictures"
_STYLE = (
    "body{margin:0;padding:20px;width:max-content;background:#0f141c;color:#c9d1d9;font:14px/20px 'DejaVu Sans Mono',monospace}"
    "pre{margin:0;font:inherit}.s2{color:#8b949e}.s1{color:#fff;font-weight:700}.s32{color:#56d364}.s31{color:#ff7b72}.s33{color:#e3b341}"
)
_READY = re.compile(r"carrier page\S*\s+(http://\S+)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=PICTURES)
    folder = parser.parse_args().folder
    demo, screen = _demo()
    try:
        said, page = _until_ready(screen)
        with chromium() as browser:
            carrier = browser.new_page(viewport={"width": 1200, "height": 750})
            carrier.goto(page, wait_until="networkidle")
            write(folder / "carrier.png", carrier.screenshot())
            text = browser.new_page(viewport={"width": 300, "height": 100})
            text.set_content(f"<style>{_STYLE}</style><pre>{as_html('$ make demo STAY=1' + chr(10) + said)}</pre>")
            write(folder / "demo.png", text.locator("body").screenshot())
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(30)
        os.close(screen)


def _demo() -> tuple[subprocess.Popen[bytes], int]:
    """The demo with its pages kept open, and the screen that it writes to."""
    screen, its_end = pty.openpty()
    command = [str(Path(sys.executable).with_name("vouch-sim")), "demo", "--stay"]
    try:
        return subprocess.Popen(command, stdout=its_end, stderr=its_end, stdin=subprocess.DEVNULL), screen
    finally:
        os.close(its_end)


def _until_ready(screen: int) -> tuple[str, str]:
    """What was printed up to the carrier page's address, which follows when all sessions are over; and that address."""
    said = b""
    while True:
        try:
            said += os.read(screen, 4096)
        except OSError as error:
            raise SystemExit(f"the demo ended before its pages were open:\n{said.decode()}") from error
        text = said.decode(errors="ignore").replace("\r\n", "\n")
        found = _READY.search(re.sub(r"\x1b\[\d+m", "", text))
        if found and "sessions as expected" in text and text.endswith("\n"):
            return text, found[1]


def as_html(text: str) -> str:
    """Lines of a terminal as HTML: its colours as classes, everything else escaped."""
    escaped = html.escape(text)
    return re.sub(r"\x1b\[0m", "</span>", re.sub(r"\x1b\[([1-9]\d*)m", r'<span class="s\1">', escaped))


if __name__ == "__main__":
    main()
