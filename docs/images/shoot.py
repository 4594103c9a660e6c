"""Takes the screenshot of the README from a demo: ``python docs/images/shoot.py DEMO_FOLDER``. Needs Chromium."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from browser.chromium import Browser, find_chromium  # noqa: E402


def main(folder: Path) -> None:
    browser = Browser(find_chromium() or "chromium")
    try:
        browser.open((folder / "report.html").resolve().as_uri(), width=1180, height=1010)
        browser.picture(Path(__file__).with_name("report.png"), whole=False)
    finally:
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
