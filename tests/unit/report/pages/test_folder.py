"""The page of a folder is written again; a page of somebody else is not touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from report_results import made_up_results, write_folder
from uresnet.errors import UserError
from uresnet.report.pages import write_pages


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(made_up_results(), tmp_path_factory.mktemp("pages") / "out")


def test_a_page_is_written_again_and_a_foreign_one_only_when_asked(results: Path) -> None:
    page = write_pages(results)
    first = page.read_bytes()
    page.write_bytes(first.replace(b"</body>", b"<p>old</p></body>"))
    assert write_pages(results) == page and page.read_bytes() == first
    page.write_text("<html>mine</html>", encoding="utf-8")
    with pytest.raises(UserError, match=r"report\.html exists already, and is no page that uresnet wrote"):
        write_pages(results)
    assert page.read_text(encoding="utf-8") == "<html>mine</html>"
    write_pages(results, overwrite=True)
    assert page.read_bytes() == first


def test_an_index_replaces_no_foreign_one(results: Path) -> None:
    folder = results.parent
    (folder / "index.html").write_text("my site", encoding="utf-8")
    (results / "report.html").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"index\.html exists already"):
        write_pages(folder)
    assert not (results / "report.html").exists()
    (folder / "index.html").unlink()
    assert write_pages(folder) == write_pages(folder) == folder / "index.html"
