"""Hooks of MkDocs: pages that are generated or kept elsewhere in the repository, and links to them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
#: Page of the site -> its file in the repository.
PAGES = {
    "index.md": "README.md",
    "reference/jobs.md": "build/reference/jobs.md",
    "reference/settings.md": "build/reference/settings.md",
    "development/contributing.md": "CONTRIBUTING.md",
    "development/adding-a-model.md": "deepfm/models/README.md",
    "development/security-policy.md": "SECURITY.md",
    "development/changelog.md": "CHANGELOG.md",
}
#: Files whose pages have another name.
MOVED = {"conf/profile/SECURITY.md": "security.md"}
PICTURES = "notebooks/pictures"
LINK = re.compile(r"(?<!`)(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files, config):
    """Add the pages and pictures that are not in docs/."""
    added = {**PAGES, **{path: path for path in pictures()}}
    for uri, path in added.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Let links lead to pages of the site; a file that is no page is named by its path."""
    uri = page.file.src_uri
    source = PAGES.get(uri, f"docs/{uri}")
    return LINK.sub(lambda match: rewrite(match, uri, source), markdown)


def rewrite(match: re.Match, uri: str, source: str) -> str:
    mark, text, target = match.groups()
    path, _, anchor = target.partition("#")
    if not path or "://" in target:
        return match[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    page = page_of(path)
    if page is None:
        # An unknown file is left to MkDocs, which reports it.
        return f"`{path}`" if (ROOT / path).exists() else match[0]
    link = posixpath.relpath(page, posixpath.dirname(uri) or ".")
    return f"{mark}[{text}]({link}{'#' + anchor if anchor else ''})"


def page_of(path: str) -> str | None:
    """Return the page or picture of the site that shows a file of the repository."""
    pages = {file: uri for uri, file in PAGES.items()} | MOVED
    if path in pages:
        return pages[path]
    if path.startswith("docs/") and (ROOT / path).is_file():
        return path.removeprefix("docs/")
    return path if path in pictures() else None


def pictures() -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / PICTURES).glob("*.png"))]
