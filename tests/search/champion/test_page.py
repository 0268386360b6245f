"""The report as one HTML file, as MLflow shows it."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

from search.champion.page import write_page

REPORT = """# Search <first>

- 3 trials: 2 completed

| trial | auc |
| --- | --- |
| 0 | 0.9 \\| 0.8 |

![Learning curves](learning_curves.png)

![gone](gone.png)

<script>alert(1)</script>
"""
PNG = b"\x89PNG\r\n\x1a\n of no image"


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources.extend(value or "" for name, value in attrs if name == "src")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_one_file_with_its_tables_and_figures_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "learning_curves.png").write_bytes(PNG)
    (tmp_path / "report.md").write_text(REPORT)
    file = write_page(tmp_path / "report.md")
    assert file == tmp_path / "report.html"
    page = Page(file.read_text())
    assert page.sources == [f"data:image/png;base64,{base64.b64encode(PNG).decode()}", "gone.png"]
    assert {"table", "li", "h1"} <= set(page.tags) and "script" not in page.tags
    assert "Search <first>" in page.text and "0.9 | 0.8" in page.text and "alert(1)" in page.text
    assert "<title>Search &lt;first&gt;</title>" in file.read_text()


def test_a_figure_is_read_from_the_reports_own_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "search").mkdir()
    report = tmp_path / "search" / "report.md"
    report.write_text("![x](../secret.png)\n")
    assert Page(write_page(report).read_text()).sources == ["../secret.png"]
