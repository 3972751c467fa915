"""What the kiosk's browser shows, asked through its debugging port; run in the page's network: look.py PORT."""

from __future__ import annotations

import json
import sys

from playwright.sync_api import sync_playwright


def main(port: int) -> dict[str, str]:
    with sync_playwright() as playwright:
        context = playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{port}", timeout=120_000).contexts[0]
        page = context.pages[0]
        page.get_by_role("heading").first.wait_for(timeout=120_000)
        seen = {"address": page.url, "text": page.inner_text("body")}
        own = context.new_page()
        own.goto("chrome://sandbox")
        seen["sandbox"] = own.inner_text("body")
        own.close()
        return seen


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
