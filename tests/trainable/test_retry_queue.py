"""Calls that wait for MLflow: in order, and what is urgent before the rest."""

from __future__ import annotations

import threading
from functools import partial

from trainable.retry_queue import RetryQueue


def test_what_is_urgent_goes_first_and_all_else_in_order() -> None:
    done: list[str] = []
    is_sending, may_go_on = threading.Event(), threading.Event()

    def send_first() -> None:
        is_sending.set()
        assert may_go_on.wait(60)

    queue = RetryQueue("ordered")
    queue.put("first", send_first)
    assert is_sending.wait(60)
    for name in ("a", "b"):
        queue.put(name, partial(done.append, name))
    for name in ("urgent 1", "urgent 2"):
        queue.put(name, partial(done.append, name), is_urgent=True)
    assert queue.flush(0.0) == ["urgent 1", "urgent 2", "first", "a", "b"]
    may_go_on.set()
    assert queue.flush(60) == []
    assert done == ["urgent 1", "urgent 2", "a", "b"]


def test_what_is_urgent_goes_on_first_once_the_server_is_back() -> None:
    done: list[str] = []
    is_back, was_tried = threading.Event(), threading.Event()

    def ask() -> None:
        was_tried.set()
        if not is_back.is_set():
            raise ConnectionError("nobody listens")
        done.append("usual")

    queue = RetryQueue("away")
    queue.put("usual", ask)
    assert was_tried.wait(60)
    queue.put("urgent", partial(done.append, "urgent"), is_urgent=True)
    is_back.set()
    assert queue.flush(60) == []
    assert sorted(done) == ["urgent", "usual"]
    assert not queue.is_away


def test_a_refusal_is_told_to_who_put_the_call_and_one_of_another_server_is_none() -> None:
    told: list[str] = []

    def refuse() -> None:
        raise ValueError("no such run")

    queue = RetryQueue("refused")
    queue.put("its own", refuse, refused=lambda error: told.append(str(error)))
    assert queue.flush(60) == [] and told == ["no such run"]
    is_own = threading.Event()
    queue.is_known = is_own.is_set
    queue.put("another's", refuse, refused=lambda error: told.append("again"))
    while not queue.is_away:
        threading.Event().wait(0.01)
    assert told == ["no such run"]
    is_own.set()
    assert queue.flush(60) == [] and told == ["no such run", "again"]
