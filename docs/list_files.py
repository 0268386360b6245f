"""The table of files in docs/architecture.md, made of the first line of each file's docstring.

python docs/list_files.py            print it
python docs/list_files.py --write    put it into the page
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
ROOMS = ("search", "trainable", "mlflow_server", "benchmarks", "examples")
BEGIN, END = "<!-- files: begin -->\n", "<!-- files: end -->\n"


def describe(file: Path) -> str:
    """The first line of a file's docstring. Raises ValueError for a file without one."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    if not docstring:
        raise ValueError(f"{file} has no docstring; its first line must name what the file is")
    return docstring.splitlines()[0].strip().removesuffix(".")


def list_files() -> str:
    """A table a folder: every Python file but `__init__.py`, and what it is."""
    files = [ROOT / "ctsearch.py"]
    for room in ROOMS:
        found = (file for file in (ROOT / room).rglob("*.py") if file.name != "__init__.py")
        files += sorted(found, key=lambda file: (file.parent, file.name))
    lines: list[str] = []
    folder = None
    for file in files:
        if file.parent != folder:
            folder = file.parent
            name = folder.relative_to(ROOT).as_posix()
            lines += ["", f"### {'The front door' if name == '.' else name + '/'}", "", "| file | what it is |"]
            lines.append("| --- | --- |")
        text = describe(file).replace("|", "\\|")
        lines.append(f"| `{file.name}` | {text} |")
    return "\n".join(lines) + "\n\n"


def insert(page: str) -> str:
    """The page with the table between its two marks."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + list_files() + END + tail


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(insert(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(list_files())
