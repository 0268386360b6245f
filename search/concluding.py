"""The end of a search: its champion is chosen, scored, registered and reported."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from search.champion.conclude import SHOWN, describe_end, report_search, write_result
from search.champion.crown import Champion, Finish, crown_champion
from search.champion.external import ExternalScore, score_all
from search.champion.report import ReportParts
from search.champion.trade_off import TradeOff, weigh
from search.commands.report import Page, write_page
from search.confirming import delete_folds, describe_folds
from search.core.confirmation import Confirmation
from search.core.describe import format_duration
from search.core.finalists import choose_finalists, find_last_rung
from search.core.folder import Phase
from search.core.stop import StopReason
from search.preparation.first_points import describe_baselines, describe_standing, record_standing
from trainable.report import Outcome

if TYPE_CHECKING:
    from search.session import Session

_log = logging.getLogger(__name__)


def conclude(session: Session, reason: StopReason, confirmation: Confirmation | None) -> None:
    """Choose, score, register and report the champion; after SIGTERM that waits for a resume."""
    plan, folder, runtime, tracking = session.plan, session.folder, session.runtime, session.tracking
    if not reason.concludes:
        tracking.close_search(Outcome.INTERRUPTED)
        words = str(session.budget.stop) if session.budget.stop.reason is reason else str(reason.value)
        said = "" if reason is StopReason.TERMINATED else f"{words}; "
        runtime.say(f"Terminated   {said}go on with: ctsearch search --resume {folder.name}")
        return
    folder.enter(Phase.CONCLUDING)
    with tracking.closing_on_error():
        is_reachable = tracking.flush()
        trade_off = weigh(session.ledger, session.study.history(), metric=plan.config.metric, costs=plan.config.costs)
        finish = describe_finish(session, confirmation, trade_off, is_reachable=is_reachable)
        finalists = choose_finalists(session.ledger, size=finish.ensemble, last_rung=finish.last_rung)
        if finish.ensemble > 1 and confirmation is None and (short := finalists.describe()):
            runtime.say(f"Finalists    {short}")
        champion = crown_champion(session.ledger, finish)
        number = champion.number if champion else None
        standing = describe_standing(session.ledger, plan.recipes, metric=plan.config.metric, champion=number)
        baselines = describe_baselines(session.ledger, plan.baselines, metric=plan.config.metric)
        spent = session.progress.describe_budget()
        if runtime.is_local:
            num_epochs = sum(entry.num_epochs for entry in session.ledger.entries.values())
            spent = f"{num_epochs} epochs, {format_duration(runtime.timings.passed_s)}"
        parts = ReportParts(
            search=folder.name,
            metric=tracking.metric.removeprefix("val_"),
            champion=champion,
            budget_lines=[spent],
            importances=session.study.importances(),
            baseline_lines=[*baselines, *standing],
            trade_off=trade_off,
        )
        report_search(session.ledger, parts, plan.data, folder, tracking)
        external = score_further_sets(session, champion)
        facts = {
            "external": {score.name: score.to_record() for score in external},
            "num_last_rung": count_at_last(session),
            "stop_reason": folder.read_record().get("stop_reason") or str(reason.value),
            **(trade_off.to_record() if trade_off else {}),
            "pace": runtime.timings.to_record(),
            **record_standing(session.ledger, plan.recipes),
            **({"recipe": plan.tags["recipe"]} if runtime.is_local else {}),
        }
        write_result(session.ledger, champion, plan.data, folder, facts)
        page = draw_page(session)
        delivered = tracking.close_search(Outcome.FAILED if champion is None else reason.outcome)
    if champion is None:
        folder.enter(Phase.SEARCHING)  # a resume may try on
        why = session.budget.stop if reason is StopReason.NO_EPOCH else "the runs in MLflow say why"
        runtime.say(f"No champion  no trial finished an epoch; {why}")
        return
    folder.update_record(champion=champion.number)
    if delivered and champion.version:
        folder.enter(Phase.ENDED)
        if confirmation is not None:
            delete_folds(session, confirmation)
    runtime.say(
        *(f"Baseline     {line}" for line in baselines),
        *(f"Recipes      {line}" for line in standing),
        *(f"Trade-off    {line}" for line in (trade_off.lines() if trade_off else ())),
        *([f"Left         {page.left}"] if page and page.left else []),
    )
    runtime.say(*describe_end(champion, folder, has_own_data=plan.config.data is not None))
    runtime.say(*(line for score in external for line in score.lines(SHOWN)))


def describe_finish(
    session: Session, confirmation: Confirmation | None, trade_off: TradeOff | None, *, is_reachable: bool
) -> Finish:
    """What choosing and registering the champion needs to know; `is_reachable` says whether MLflow answers."""
    plan, tracking = session.plan, session.tracking
    return Finish(
        is_reachable=is_reachable,
        folder=session.folder,
        task=session.task,
        model_name=plan.model_name,
        tracking_uri=tracking.uri,
        parent_run_id=tracking.parent_run_id,
        warnings=plan.data.warnings,
        ensemble=plan.config.ensemble,
        last_rung=find_last_rung(session.levels, plan.settings.max_epochs),
        calibrates=not plan.config.raw_probabilities,
        goals=plan.config.goals,
        promote=plan.config.promote,
        confirmation=confirmation,
        preferred=(trade_off.chosen.number,) if trade_off else (),
        fold_tasks=describe_folds(session, confirmation) if confirmation else (),
        group_name="patients" if plan.data.grouped_by == "patient" else "groups of neighbouring slices",
    )


def draw_page(session: Session) -> Page | None:
    """The page of the whole search, on its run too; None, after a warning, where it cannot be drawn: the champion is
    worth more than its page."""
    try:
        page = write_page(session.folder)
    except Exception as error:
        _log.warning("the page search.html was not drawn (%s: %s)", type(error).__name__, error)
        return None
    session.tracking.log_file(page.file)
    return page


def score_further_sets(session: Session, champion: Champion | None) -> list[ExternalScore]:
    """The champion on every set of --external, once, when everything about it is fixed; logged to the search's run."""
    folder, tracking = session.folder, session.tracking
    if champion is None or not session.plan.config.external:
        return []
    scores = score_all(
        session.plan.config.external, champion.models, cache_dir=folder.cache, num_workers=os.cpu_count() or 1
    )
    for score in scores:
        tracking.log_metrics(score.to_metrics(f"external_{score.name}"))
        tracking.log_dict(f"external/{score.name}.json", score.to_record())
    return scores


def count_at_last(session: Session) -> int:
    """How many trials have reached the last epoch at which trials are compared."""
    last = find_last_rung(session.levels, session.plan.settings.max_epochs)
    return sum(entry.num_epochs >= last > 0 for entry in session.ledger.entries.values())
