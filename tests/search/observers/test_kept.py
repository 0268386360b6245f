"""Checkpoints of trials that may yet be members of a champion are kept, however the median moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from search.champion.choice import list_eligible
from search.core.finalists import rank_finalists
from search.core.ledger import Ledger, TrialEntry
from search.observers.checkpoints import CheckpointKeeper
from trainable.report import Outcome

LAST_RUNG = 3
COMPLETED, STOPPED = Outcome.COMPLETED, Outcome.STOPPED
Trial = tuple[float, Outcome, int]
TRIALS = st.tuples(st.floats(0.4, 1.0), st.sampled_from([COMPLETED, STOPPED]), st.integers(1, 4))


def play(trials: Sequence[Trial]) -> Iterator[tuple[list[int], set[int]]]:
    """Let trials of (value, outcome, epochs) end; after each the members of the champion, and whose best is gone."""
    ledger = Ledger()
    freed: set[int] = set()
    keeper = CheckpointKeeper(ledger, lambda number, kind: freed.add(number) if kind == "best" else None)
    keeper.rank = partial(rank_finalists, ledger, LAST_RUNG)
    for number, (value, outcome, num_epochs) in enumerate(trials):
        values = dict.fromkeys(range(1, num_epochs + 1), value)
        entry = TrialEntry(number=number, params={}, values=values, outcome=outcome)
        ledger.restore(entry)
        keeper.trial_ended(entry)
        yield [member.number for member in list_eligible(ledger, LAST_RUNG)[:5]], freed


@given(st.lists(TRIALS, min_size=1, max_size=40))
def test_the_members_of_a_champion_are_kept_after_every_trial(trials: list[Trial]) -> None:
    for num_ended, (members, freed) in enumerate(play(trials), 1):
        assert not freed.intersection(members)
        assert num_ended - len(freed) <= 11, "five of either kind, and the best by value"


def test_a_completed_trial_below_the_median_takes_no_members_place() -> None:
    stopped = [(value, STOPPED, LAST_RUNG) for value in (0.57, 0.7, 0.71, 0.79, 0.95)]
    completed = [(value, COMPLETED, 9) for value in (0.87, 0.67, 0.72)]
    *_, (members, freed) = play([*stopped, *completed])
    assert members == [5, 7, 4, 3, 2], "the completed 0.67 is below the median, 0.71 is not"
    assert freed == {0, 1}
