"""The README and the pages beside it point at files that are there; the README stays one read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md", *sorted((ROOT / ".github").glob("*.md")),
    ROOT / "assets" / "README.md", ROOT / "assets" / "guarantee.md",
    ROOT / "dpgen" / "storage" / "schemas.md",
]  # fmt: skip
LINK = re.compile(r"\]\(([^)#]+)\)")
PATH = re.compile(r"\b(?:dpgen|samplers|scripts|tests|assets)/[\w./-]*[\w/]")


def missing_links(page: Path) -> list[str]:
    """Links of a page to files that are not there."""
    links = (link for link in LINK.findall(page.read_text()) if "://" not in link)
    return [link for link in links if not (page.parent / link).exists()]


def missing_paths(page: Path) -> list[str]:
    """Paths of the repository that a page names and that are not there."""
    text = LINK.sub("]()", page.read_text())
    return [path for path in PATH.findall(text) if not (ROOT / path).exists()]


def test_the_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_paths_of_a_page_lead_to_what_is_there(page: Path) -> None:
    assert missing_links(page) == []
    assert missing_paths(page) == []


def test_a_link_or_a_path_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](gone.md) [b](https://a.example/b.md) `scripts/gone.py` `scripts/test.sh`")
    assert missing_links(page) == ["gone.md"] and missing_paths(page) == ["scripts/gone.py"]


def test_every_file_in_assets_is_in_its_list() -> None:
    listed = (ROOT / "assets" / "README.md").read_text()
    names = {path.name for path in (ROOT / "assets").iterdir()} - {"README.md"}
    missing = [n for n in sorted(names) if f"`{n}`" not in listed and f"({n})" not in listed]
    assert missing == []
