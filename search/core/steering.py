"""How a running search is steered from outside: small files in its folder, each a request, and beside it the answer.

A request is written aside and renamed, so that the driver never reads half of one; it works wherever the folder can be
seen. The driver answers each once and takes it away.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainable.files import write_atomically

REQUEST, ANSWER = ".request.json", ".answer.json"
VERBS = ("stop", "stop-trial", "try", "extend")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a driver: a verb of `VERBS`, and what belongs to it."""

    file: Path
    verb: str
    content: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a driver said: whether it does what was asked, and one line."""

    done: bool
    text: str


def ask(folder: Path, verb: str, **content: Any) -> Path:
    """Leave a request in a search's folder; the file to wait for with `wait_for_answer`."""
    steering = folder / "steering"
    steering.mkdir(exist_ok=True)
    file = steering / f"{time.time_ns()}-{os.getpid()}{REQUEST}"
    write_atomically(file, json.dumps({"verb": verb, **content}))
    return file


def wait_for_answer(request: Path, timeout_s: float) -> Answer | None:
    """The driver's answer; None where it has given none in time. Then the request stays, for when it looks."""
    file = _answer_of(request)
    until_s = time.monotonic() + timeout_s
    while True:
        try:
            content = json.loads(file.read_text())
        except FileNotFoundError:
            if time.monotonic() > until_s:
                return None
            time.sleep(0.1)
            continue
        file.unlink(missing_ok=True)
        return Answer(done=bool(content["done"]), text=str(content["text"]))


def read_requests(folder: Path) -> Iterator[Request]:
    """The requests that nobody has answered yet, oldest first. One that cannot be read is answered so."""
    for file in sorted((folder / "steering").glob(f"*{REQUEST}")):
        try:
            content = json.loads(file.read_text())
            verb = content.pop("verb")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            answer(file, Answer(done=False, text=f"the request cannot be read: {error}"))
            continue
        yield Request(file=file, verb=verb, content=content)


def answer(request: Path, given: Answer) -> None:
    """Say what becomes of a request, and take it away."""
    write_atomically(_answer_of(request), json.dumps({"done": given.done, "text": given.text}))
    request.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Take away what was asked of an earlier driver, or answered by it."""
    for file in (folder / "steering").glob("*.json"):
        file.unlink(missing_ok=True)


def _answer_of(request: Path) -> Path:
    return request.with_name(request.name.removesuffix(REQUEST) + ANSWER)
