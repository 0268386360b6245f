"""The records of a search kept up to date as it runs: step plans in `search.json`, and a copy in the storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from search.core.events import Observer

if TYPE_CHECKING:
    from search.core.folder import SearchFolder
    from search.core.ledger import TrialEntry
    from trainable.report import TrialReport


class RecordSync(Observer):
    """`step_plans` are those measured so far, by key: new ones are entered there, for the trials to come.

    `copy_records` asks for a copy of the records beside the checkpoints.
    """

    def __init__(
        self, folder: SearchFolder, step_plans: dict[str, dict[str, str]], copy_records: Callable[[], None]
    ) -> None:
        self.folder = folder
        self.step_plans = step_plans
        self.copy_records = copy_records

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        if report.plan_key and report.plan_key not in self.step_plans:
            self.step_plans[report.plan_key] = dict(report.plan)
            self.folder.update_record(plans=self.step_plans)

    def trial_ended(self, entry: TrialEntry) -> None:
        self.copy_records()
