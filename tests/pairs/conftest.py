"""Pair stores for tests, on SQLite and, where a server can be started, on PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from lab.pairs import Pair, PairStore
from tests.pairs import postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a database on a server of this session's own."""
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.server() as url:
        yield url


SETS = itertools.count()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.extended)])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where no store is yet: a file, or a set of a PostgreSQL database."""
    if request.param == "sqlite":
        return str(tmp_path / "a.sqlite")
    return f"{request.getfixturevalue('postgres_url')}&set=test{next(SETS)}"


@pytest.fixture
def new_store(location: str) -> Callable[..., PairStore]:
    """new_store(pairs): a store of pairs."""

    def create(pairs: Iterable[Pair], name: str = "eggs", source: str = "a book") -> PairStore:
        return PairStore.create(location, pairs, name=name, source=source)

    return create
