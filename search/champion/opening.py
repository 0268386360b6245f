"""The opening of the sealed test: recorded before it happens, and a search opens it for one model only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from search.core.describe import name_trials
from trainable.records import read_record, write_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OPENING_FILE = "sealed_test.json"


class SealedTestError(ValueError):
    """The sealed test of this search was opened for another model, or its record is damaged."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """One opening, for the model made of the trials `members`, in the order of their numbers.

    `num_openings` counts those of this data, and of this search, in this home up to and including this one. `earlier`
    are the models for which the same search has opened it before: a search that was extended may come to another
    champion. `num_extensions` is how often it had been extended by then.
    """

    search: str
    members: tuple[int, ...]
    data_hash: str
    opened_at: str  # UTC, ISO 8601
    num_openings: int
    earlier: tuple[tuple[int, ...], ...] = ()
    num_extensions: int = 0

    @property
    def warning(self) -> str | None:
        """What a user of the model must know of earlier openings; None without any."""
        if not self.earlier:
            return None
        before = "; ".join(map(name_trials, self.earlier))
        return (
            f"the search was extended, or lost a checkpoint, after its sealed test had been opened for {before}: this "
            f"is its opening number {len(self.earlier) + 1}, and the test figures are no longer those of an untouched "
            "test"
        )

    @property
    def timestamp_ms(self) -> int:
        return int(datetime.fromisoformat(self.opened_at).timestamp() * 1000)

    def to_record(self) -> dict[str, Any]:
        """`champion` is a trial's number, or a list of them for an ensemble."""
        members = list(self.members)
        return {
            "search": self.search,
            "champion": members[0] if len(members) == 1 else members,
            "data_hash": self.data_hash,
            "opened_at": self.opened_at,
            "num_openings": self.num_openings,
            "earlier": [list(numbers) for numbers in self.earlier],
            "num_extensions": self.num_extensions,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Opening:
        """Raises ValueError, TypeError or KeyError for what `to_record` did not give."""
        champion = record["champion"]
        members = (champion,) if isinstance(champion, int) else tuple(map(int, champion))
        earlier = tuple(tuple(map(int, numbers)) for numbers in record.get("earlier", ()))
        others = {name: entry for name, entry in record.items() if name not in ("champion", "earlier")}
        return cls(members=members, earlier=earlier, **others)


def opened_for(path: Path, num_extensions: int) -> tuple[int, ...]:
    """The trials that a search must go on with, since its sealed test was opened for them; none before an opening.

    A search that was extended since chooses anew.
    """
    opening = read_opening(path)
    return opening.members if opening is not None and opening.num_extensions >= num_extensions else ()


def record_opening(
    folder: Path,
    *,
    search: str,
    members: Sequence[int],
    data_hash: str,
    num_extensions: int = 0,
    others_are_lost: bool = False,
) -> Opening:
    """Write down that the sealed test is about to be opened; `folder` lies among the folders of all searches.

    The same members find their own record again. Others are recorded and counted where the search was extended since
    (`num_extensions` is how often it was), or where they are what is left of those (`others_are_lost`: their
    checkpoints cannot be read). Raises SealedTestError for any others.
    """
    path, members = folder / OPENING_FILE, tuple(sorted(members))
    present = read_opening(path)
    is_extended = present is not None and present.num_extensions < num_extensions
    is_rest = present is not None and others_are_lost and set(members) < set(present.members)
    if present is not None and not is_rest and (not is_extended or present.members == members):
        if (present.members, present.data_hash) != (members, data_hash) and not is_extended:
            raise SealedTestError(
                f"the sealed test of search {search} was opened for {name_trials(present.members)} at "
                f"{present.opened_at}. Opening it for {name_trials(members)} too would make it a second validation "
                "set: start a new search to score another champion"
            )
        if is_extended:
            present = replace(present, num_extensions=num_extensions)
            write_record(path, present.to_record())
        return present
    others = [read_opening(other) for other in folder.parent.glob(f"*/{OPENING_FILE}")]
    counted = [other for other in others if other is not None and (other.data_hash == data_hash or other == present)]
    opening = Opening(
        search=search,
        members=members,
        data_hash=data_hash,
        opened_at=datetime.now(UTC).isoformat(timespec="seconds"),
        num_openings=1 + sum(1 + len(other.earlier) for other in counted),
        earlier=() if present is None else (*present.earlier, present.members),
        num_extensions=num_extensions,
    )
    write_record(path, opening.to_record())
    return opening


def read_opening(path: Path) -> Opening | None:
    """The record of an opening, or None. Raises SealedTestError for a damaged one."""
    try:
        return Opening.from_record(read_record(path))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise SealedTestError(
            f"{path} is damaged ({error}); it must say for whom the sealed test was opened: restore it"
        ) from error
