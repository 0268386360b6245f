"""What README and docs/ promise: sizes, links, commands that parse, every option, and an up-to-date table of files."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from docs.list_files import BEGIN, END, insert, list_files
from mlflow_server.cli import build_parser as build_server_parser
from search.command_parser import build_parser
from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
WANTED = (
    *("quickstart", "data", "search", "results", "cluster", "server", "python-api", "measured", "architecture"),
    *("glossary", "troubleshooting"),
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read_commands(page: Path) -> list[str]:
    """The lines `ctsearch ...` of a page's fenced blocks, and of the help's examples in its tables and text."""
    text = page.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("ctsearch ")]


COMMANDS = [(name_of(page), line) for page in PAGES for line in read_commands(page)]


def test_the_readme_is_one_page() -> None:
    readme = (ROOT / "README.md").read_bytes()
    assert len(readme.splitlines()) <= 150
    assert len(readme) <= 9000
    assert readme.count(b"![") == 1, "one image"


def test_every_page_is_there_and_the_readme_leads_to_it() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in WANTED:
        assert (DOCS / f"{name}.md").is_file()
        assert f"(docs/{name}.md)" in readme


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_the_table_of_files_is_up_to_date() -> None:
    page = (DOCS / "architecture.md").read_text()
    assert BEGIN in page and END in page
    assert page == insert(page), "run `python docs/list_files.py --write`"


def test_the_table_of_files_has_every_source_file() -> None:
    table = list_files()
    for room in ("search", "trainable", "mlflow_server", "benchmarks", "examples"):
        for file in (ROOT / room).rglob("*.py"):
            assert file.name == "__init__.py" or f"| `{file.name}` |" in table


def test_the_newcomers_way_takes_four_files_and_its_lines_are_there() -> None:
    _, _, rest = (DOCS / "architecture.md").read_text().partition("## A newcomer's way")
    section, _, _ = rest.partition("\n## ")
    steps = re.findall(r"^\| `([a-z_/]+\.py)` \|.*\| `([^`]+)` \|$", section, re.MULTILINE)
    assert 1 <= len(steps) <= 4
    for file, line in steps:
        assert line in (ROOT / file).read_text(), f"{file} has no {line}"


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line[:50]}" for page, line in COMMANDS])
def test_a_command_of_the_docs_is_one_that_the_command_line_takes(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    if words[0] == "server":
        build_server_parser().parse_args(words[1:])
    else:
        args = build_parser().parse_args(words)
        if args.command == "submit":
            build_parser().parse_args(["search", *args.options])
    named = [word.partition(":")[0] for word in words if word.startswith("examples/")]
    assert all((ROOT / name).is_file() for name in named)


def test_every_option_of_a_search_is_described() -> None:
    described = (DOCS / "search.md").read_text() + (DOCS / "data.md").read_text()
    search = next(a.choices["search"] for a in build_parser()._actions if isinstance(a.choices, dict))
    flags = {flag for action in search._actions for flag in action.option_strings if flag.startswith("--")}
    missing = [flag for flag in sorted(flags - {"--help"}) if not re.search(rf"{flag}\b(?!-)", described)]
    assert missing == []


@pytest.mark.parametrize("name", ["search", "results", "quickstart", "cluster"])
def test_no_page_names_an_option_that_is_not_there(name: str) -> None:
    commands = next(a.choices for a in build_parser()._actions if isinstance(a.choices, dict))
    known = {flag for command in commands.values() for action in command._actions for flag in action.option_strings}
    text = re.sub(r"^(ray|mlflow|base64|python3|RAY_UP).*$", "", (DOCS / f"{name}.md").read_text(), flags=re.MULTILINE)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--auth", "--env-manager"}
    assert sorted(named - known) == []


def test_every_field_of_a_search_in_python_is_an_option_on_the_page() -> None:
    page = (DOCS / "python-api.md").read_text()
    import ctsearch

    public = [name for name in ctsearch.__all__ if name not in ("ChampionResult", "SearchResult", "SearchConfig")]
    assert all(f"ctsearch.{name}" in page for name in public)
    assert all(name in page for name in ("SearchResult", "ChampionResult", "SearchConfig"))


def test_each_table_of_figures_has_its_command_and_its_date() -> None:
    _, *sections = (DOCS / "measured.md").read_text().split("\n## ")
    for section in sections:
        title, _, text = section.partition("\n")
        assert "benchmarks/" in text or "python search/run.py" in text, title
        assert re.search(r"\*Measured on \d{4}-\d\d-\d\d", text) or "has not been run" in text, title


def read_texts() -> list[str]:
    """Every text of the sources, with a gap where a value stands in it."""
    texts = []
    for room in ("search", "trainable", "mlflow_server"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.JoinedStr):
                    texts.append("\0".join(str(part.value) for part in node.values if isinstance(part, ast.Constant)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return [*texts, (ROOT / "ctsearch.py").read_text()]


def test_each_message_of_the_troubleshooting_page_is_one_of_ours() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    messages = re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\| (`.+?) \| ", page, re.MULTILINE)))
    assert len(messages) > 40
    texts = "\n".join(read_texts())
    unknown = []
    for message in messages:
        gaps = r"\.\.\.|'[^']*'|\b[A-Z]{3,}(?::[A-Z]+)?\b|\b[NM]\b|^--[a-z-]+|\bpg_dump\b"
        fragment = max((part.strip(" :;,.()") for part in re.split(gaps, message)), key=len)
        if fragment not in texts:
            unknown.append(fragment)
    assert unknown == []
