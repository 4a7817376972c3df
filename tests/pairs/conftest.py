"""Pair stores for tests, on SQLite and, where a server can be started, on PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from lab.pairs import Pair, PairStore

SETS = itertools.count()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.extended)])
def new_location(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """new_location(): where no store is yet: a file, or a set of a PostgreSQL database."""
    if request.param == "sqlite":
        return lambda: str(tmp_path / f"{next(SETS)}.sqlite")
    url = request.getfixturevalue("postgres_url")
    return lambda: f"{url}&set=test{next(SETS)}"


@pytest.fixture
def location(new_location: Callable[[], str]) -> str:
    """One such place."""
    return new_location()


@pytest.fixture
def new_store(location: str) -> Callable[..., PairStore]:
    """new_store(pairs): a store of pairs."""

    def create(pairs: Iterable[Pair], name: str = "eggs", source: str = "a book") -> PairStore:
        return PairStore.create(location, pairs, name=name, source=source)

    return create
