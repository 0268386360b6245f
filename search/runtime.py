"""What a search needs around it while it runs: Ray, MLflow's server, its records' copy, and who listens to it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType

from rich.console import Console

from search.core.config import SearchConfig
from search.core.folder import SearchFolder
from search.core.stop import StopReason, StopRequest
from search.engine.cluster import Cluster, connect
from search.observers.lasting_output import drop_closed_terminal
from search.observers.mirror import mirror_records
from search.observers.server import TrackingServer
from search.observers.timings import Timings


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM where no trial runs, or for the second time."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who called for a search: where its lines go, how it may ask for the end, and when it called (Unix time).

    With `handles_signals` (main thread only) Ctrl-C and SIGTERM end a search cleanly, a second one at once; a closed
    terminal (SIGHUP) is as SIGTERM, unless the caller's own caller ignores it, as nohup does.
    """

    console: Console = field(default_factory=lambda: Console(quiet=True))
    stop: StopRequest = field(default_factory=StopRequest)
    began_at_s: float | None = None
    handles_signals: bool = False

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Handlers for these signals, as they were before at the end."""
        if not self.handles_signals:
            yield
            return

        def end(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGHUP:
                drop_closed_terminal()
            reason = StopReason.CTRL_C if number == signal.SIGINT else StopReason.TERMINATED
            if not self.stop.is_heeded or not self.stop.ask(reason):
                raise Interrupted(reason)

        handled = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handled.append(signal.SIGHUP)
        before = {number: signal.signal(number, end) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def ignored_below(number: int, *, applies: bool) -> Iterator[None]:
    """Processes that are started meanwhile ignore this signal for good; here it is handled again afterwards.

    A terminal that is closed signals every process that was started from it: Ray's as well, which the search still
    needs to end in order.
    """
    if not applies:
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)
    if drop_closed_terminal() and before is not signal.SIG_IGN:
        signal.raise_signal(number)  # it came meanwhile


@dataclass(kw_only=True)
class Runtime:
    """`cluster` is what trials run on: a Ray cluster, or this machine alone (`is_local`: no Ray)."""

    cluster: Cluster
    server: TrackingServer
    timings: Timings
    console: Console
    stop: StopRequest
    copy_records: Callable[[], None]
    is_local: bool = False

    def say(self, *lines: str) -> None:
        """Print lines for the user."""
        for line in lines:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def open_runtime(
    config: SearchConfig, folder: SearchFolder, caller: Caller, *, local: bool = False
) -> Iterator[Runtime]:
    """Start what is missing; at the end a Ray of our own stops, and our hold on the server goes.

    MLflow's server starts first and is waited for where it is first used. Ray starts in the calling thread, before any
    work with images: it forks, and a fork while another thread computes with OpenBLAS never returns.
    """
    timings = Timings(caller.began_at_s)
    with ExitStack() as stack:
        server = stack.enter_context(TrackingServer(config.tracking_uri, folder.mlflow, timings.part))
        if local:
            from search.engine.local import describe_machine

            cluster = describe_machine()
        else:
            import ray

            if not ray.is_initialized():
                stack.callback(ray.shutdown)
            with timings.part("Ray"), ignored_below(signal.SIGHUP, applies=caller.handles_signals):
                cluster = connect(config.ray_address, trial_cpus=config.trial_cpus, trial_gpus=config.trial_gpus)
        stack.enter_context(caller.signals())  # Ray has handlers of its own by now
        yield Runtime(
            cluster=cluster,
            server=server,
            timings=timings,
            console=caller.console,
            stop=caller.stop,
            copy_records=stack.enter_context(mirror_records(folder.folder, config.storage)),
            is_local=local,
        )
