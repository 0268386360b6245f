"""YAML files that users write: what is wrong with one is said in a line, with its own"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainable.files import open_regular_file


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a user's YAML file, an empty one where the file is; `what` names it, such as "--config".

    Raises ValueError naming file, line and fault.
    """
    import yaml

    try:
        with open_regular_file(path, what) as file:
            content = yaml.safe_load(file.read().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} {path}: it is no text ({error.reason} at byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{what} {path}{where}: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{what} {path}: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict | None):
        raise ValueError(f"{what} {path} holds a {type(content).__name__}; it must be a mapping, NAME: VALUE a line")
    return content or {}
