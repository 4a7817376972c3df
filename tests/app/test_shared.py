"""Figures that the pages of a class lab share: built once, never older than allowed, and not at all shared outside of a class."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from app.state import access, pacing, shared
from app.state.access import Tokens


@pytest.fixture
def in_class() -> Iterator[None]:
    access.serve_with(Tokens.new(1))
    shared._entries.clear()
    yield
    access.serve_with(None)
    shared._entries.clear()


def test_outside_of_a_class_nothing_is_shared() -> None:
    made = iter(range(9))
    assert [shared.shared("key", lambda: next(made), 60) for _ in range(3)] == [0, 1, 2]
    assert shared._entries == {}
    assert pacing.shortest_interval() == pacing.INTERVAL


def test_sessions_that_come_at_once_wait_for_one_value(in_class: None) -> None:
    made: list[int] = []
    values: list[int] = []

    def make() -> int:
        time.sleep(0.2)
        made.append(1)
        return len(made)

    threads = [threading.Thread(target=lambda: values.append(shared.shared("key", make, 60))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert values == [1] * 8
    assert pacing.shortest_interval() == pacing.CLASS_INTERVAL


def test_a_value_is_never_older_than_allowed_and_belongs_to_its_key(in_class: None) -> None:
    made = iter(range(9))
    assert shared.shared("one", lambda: next(made), 60) == 0
    assert shared.shared("other", lambda: next(made), 60) == 1
    assert shared.shared("one", lambda: next(made), 60) == 0
    time.sleep(0.02)
    assert shared.shared("one", lambda: next(made), 0.01) == 2


def test_an_error_is_not_kept(in_class: None) -> None:
    with pytest.raises(ValueError, match="once"):
        shared.shared("key", lambda: (_ for _ in ()).throw(ValueError("once")), 60)
    assert shared.shared("key", lambda: 1, 60) == 1


def test_old_values_are_dropped(in_class: None) -> None:
    for number in range(shared.MOST + 5):
        shared.shared(number, lambda: None, 60)
    assert len(shared._entries) == shared.MOST
    assert shared.MOST + 4 in shared._entries
