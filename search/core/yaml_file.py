"""YAML files that users write: what is wrong with one is said in a line, with its own.

Values are what they would be on a command line: all are text but true, false and null. YAML 1.1 would read `0:0.5` in
sixties as 0.5 and `8:32` as 512, `010` as 8, `off` as false and `2026-11-29` as a date, and nobody would be told.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from trainable.files import read_text_file

MOST_CHARS = 10**6
"""With all that its aliases stand for; a few lines of them can stand for more than fits into any memory."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, by which text stays text, and that refuses a name that stands twice in a mapping."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.num_chars: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark
        node = super().compose_node(parent, index)
        found = len(node.value)
        if isinstance(node, yaml.CollectionNode):
            parts = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
            found = 1 + sum(self.num_chars.get(id(part), 0) for part in parts)
        self.num_chars[id(node)] = found
        if found > MOST_CHARS:
            raise yaml.composer.ComposerError(None, None, f"its aliases stand for more than {MOST_CHARS:,} signs", mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen |= {key.value} if isinstance(key, yaml.ScalarNode) else set()
        return node


for _tag, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", "null|Null|NULL|~|", [*"nN~", ""]),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a user's YAML file, an empty one where the file is; `what` names it, such as "--config".

    Raises ValueError naming file, line and fault.
    """
    text = read_text_file(path, what, kind="YAML")
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{what} {path}{where}: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{what} {path}: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict | None):
        raise ValueError(f"{what} {path} holds a {type(content).__name__}; it must be a mapping, NAME: VALUE a line")
    return content or {}
