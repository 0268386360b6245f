from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from trainable.time_limit import time_limit


def test_a_loop_without_an_end_becomes_an_error_also_where_it_passes_errors_over() -> None:
    with pytest.raises(TimeoutError, match=r"no end came within 0\.05 s"), time_limit(0.05):
        while True:
            pass
    num_passed_over = 0
    with pytest.raises(TimeoutError), time_limit(0.05):
        while num_passed_over < 2:
            try:
                time.sleep(10)
            except TimeoutError:
                num_passed_over += 1
        raise TimeoutError
    assert num_passed_over == 2


def test_a_timer_and_a_handler_of_before_go_on() -> None:
    rung = threading.Event()
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.set())
    timer = signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with time_limit(60):
            pass
        assert rung.wait(5)
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def test_in_another_thread_there_is_none() -> None:
    def wait() -> bool:
        with time_limit(0.01):
            time.sleep(0.05)
        return True

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(wait).result()
