"""How a data set was read: all that was guessed, in one block that is shown before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

from trainable.images.names import printable

MAX_ITEMS = 6


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was taken as what. No patient is named.

    `columns` are pairs of what was looked for and the table's header, `splits` of a name on the disk or in the table
    and train, val or test, `classes` of a class and its slices. `patients` says where they come from and how many
    they are. `left_out` has a sentence for everything that is not used, `notes` for other guesses, `warnings` for
    what may be wrong.
    """

    source: str
    layout: str
    columns: tuple[tuple[str, str], ...]
    splits: tuple[tuple[str, str], ...]
    classes: tuple[tuple[str, int], ...]
    positive: str
    patients: str
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """The block for a terminal, each line printable."""
        entries = [
            ("data", self.source),
            ("layout", self.layout),
            ("columns", ", ".join(f"{header} is the {role}" for role, header in self.columns)),
            ("classes", _list([f"{name} {count}" for name, count in self.classes])),
            ("positive", self.positive),
            ("splits", _list([f"{name} is {split}" for name, split in self.splits]) or "none given: they are drawn"),
            ("patients", self.patients),
            *(("left out", line) for line in _some(self.left_out)),
            *(("note", line) for line in self.notes),
            *(("warning", line) for line in self.warnings),
        ]
        return ["Read as:", *(f"  {key:9} {printable(text)}" for key, text in entries if text)]


def _list(items: list[str]) -> str:
    return ", ".join(items[:MAX_ITEMS]) + (f" and {len(items) - MAX_ITEMS} more" if len(items) > MAX_ITEMS else "")


def _some(lines: tuple[str, ...]) -> list[str]:
    more = [f"and {len(lines) - MAX_ITEMS} more of such lines"] if len(lines) > MAX_ITEMS else []
    return [*lines[:MAX_ITEMS], *more]
