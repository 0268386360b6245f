"""Bases of rules: a rule over a board, and a rule around another; each states only what it decides itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol

from search.core.board import Board
from search.core.decisions import Decision, Rule, RuleT, Verdict


class BoardRule:
    """A rule whose `board` is all that it knows. A subclass says what a free worker does next."""

    board: Board

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        self.board.begin(number, params)

    def report(
        self,
        number: int,
        epoch: int,
        value: float,
        standard_error: float | None = None,
        seconds: float | None = None,
    ) -> Verdict:
        return self.board.report(number, epoch, value, standard_error, seconds)

    def end(self, number: int, outcome: str) -> None:
        self.board.end(number, outcome)

    def forget(self, number: int) -> None:
        self.board.forget(number)


class RuleWithBoard(Rule, Protocol):
    """A rule that pauses trials."""

    @property
    def board(self) -> Board: ...


class WrappedRule(Generic[RuleT]):
    """A rule around `inner`, whose verdicts and decisions are its own. A subclass says where it decides otherwise.

    `advisers` are rules that are kept as `inner` is, to be asked about the trials; their verdicts count for nothing.
    """

    inner: RuleT
    advisers: Sequence[Rule] = ()

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        for rule in self._all():
            rule.begin(number, params)

    def report(
        self,
        number: int,
        epoch: int,
        value: float,
        standard_error: float | None = None,
        seconds: float | None = None,
    ) -> Verdict:
        epoch_facts = (number, epoch, value, standard_error, seconds)
        for adviser in self.advisers:
            adviser.report(*epoch_facts)
        return self.inner.report(*epoch_facts)

    def end(self, number: int, outcome: str) -> None:
        for rule in self._all():
            rule.end(number, outcome)

    def forget(self, number: int) -> None:
        for rule in self._all():
            rule.forget(number)

    def next(self, *, may_begin: bool = True) -> Decision:
        return self.inner.next(may_begin=may_begin)

    def _all(self) -> tuple[Rule, ...]:
        return *self.advisers, self.inner


class WrappedBoardRule(WrappedRule[RuleWithBoard]):
    """The same around a rule that pauses trials: what it decides otherwise is where they go on."""

    @property
    def board(self) -> Board:
        return self.inner.board
