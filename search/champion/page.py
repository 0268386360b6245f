"""The report as one HTML file, which MLflow shows among a run's artifacts: its Markdown, with every figure inside"""

from __future__ import annotations

import base64
import html
import mimetypes
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border: 1px solid #ccc; padding: 0.2em 0.6em; text-align: left; white-space: nowrap; }
img { max-width: 100%; }
pre { background: #f5f5f5; padding: 0.8em; overflow-x: auto; }
"""


def write_page(report: Path) -> Path:
    """Write `report`, Markdown, as HTML beside it, under the same name; figures are read from its folder.

    HTML within the Markdown is shown as it is written, never run. A figure that is not there stays a link.
    """
    from markdown_it import MarkdownIt  # fifty modules, which no search needs to begin

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(report.read_text(encoding="utf-8"))
    for image in (child for token in tokens for child in token.children or () if child.type == "image"):
        figure = report.with_name(PurePosixPath(str(image.attrs["src"])).name)
        kind, _ = mimetypes.guess_type(figure.name)
        if figure.is_file() and kind is not None:
            content = base64.b64encode(figure.read_bytes()).decode("ascii")
            image.attrs["src"] = f"data:{kind};base64,{content}"
    body = parser.renderer.render(tokens, parser.options, {})
    title = next((token.content for before, token in pairwise(tokens) if before.tag == "h1"), "")
    page = report.with_suffix(".html")
    page.write_text(
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        encoding="utf-8",
    )
    return page
