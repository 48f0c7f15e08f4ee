"""`make docs`: write the generated pages of the reference, `reference.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from jobs_reference import jobs_page
from settings_reference import settings_page

PAGES = {"jobs.md": jobs_page, "settings.md": settings_page}


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
