"""The customer at the page, run in the page's own network: agrees, follows to the outcome, prints it.

python -m tests.support.customer URL
"""

from __future__ import annotations

import sys
import time

from simulator.kiosk_client import KioskClient


def main(url: str) -> int:
    page = KioskClient(url)
    agreed = False
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        view = page.view()
        if view.get("phase") == "consent" and not agreed:
            page.consent()
            agreed = True
        if agreed and view.get("outcome"):
            print(view["outcome"], flush=True)
            return 0
        time.sleep(0.1)
    print("nothing came", page.view(), flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
