"""Series at any length: what comes back is what went in, however little of it is read; spikes and ends survive exactly."""

from __future__ import annotations

import sqlite3

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.store import LayerRow, StoreReader, StoreWriter
from lab.store import series as packing
from lab.store.readers.series import SeriesRange
from lab.store.schema import TABLES
from lab.store.series import SCALAR, SeriesWriter
from lab.store.summaries import grouped, mean_of, merged, of_values, points_of, trailing

NUMBERS = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf, 0.0]))


def _small(patch):
    """Packs and levels so small that a few hundred values make many of them."""
    for name, value in {"VALUES": 16, "BASE": 4, "FACTOR": 2, "SUMMARIES": 4, "TAIL": 8, "PIECE": 24}.items():
        patch.setattr(packing, name, value)
    for name in ("VALUES", "BASE", "FACTOR"):
        patch.setattr(f"lab.store.readers.series.{name}", getattr(packing, name))


class Series:
    """One series in a store that lies in memory, and the same as a dict of step and value."""

    def __init__(self):
        self.c = sqlite3.connect(":memory:", isolation_level=None)
        self.c.executescript(TABLES)
        self.c.execute("INSERT INTO series VALUES (1, 'scalar', 'x')")
        self.writer = SeriesWriter(self.c)
        self.known = {}

    def add(self, step, value):
        self.writer.add(SCALAR, step, [1], [value])
        self.known[step] = value

    def pack(self):
        while self.writer.pack():
            pass

    def forget_after(self, step):
        self.c.execute("DELETE FROM recent WHERE step > ?", (step,))
        self.writer.forget_after(step)
        self.writer.reset()
        self.known = {s: v for s, v in self.known.items() if s <= step}

    def reading(self, first=0, last=2**62):
        return SeriesRange(lambda sql, values: self.c.execute(sql, values).fetchall(), SCALAR, first, last)

    def expected(self, first, last):
        steps = sorted(step for step in self.known if first <= step <= last)
        return np.array(steps, np.int64), np.array([self.known[step] for step in steps], np.float64)

    def tables(self):
        """What the packs hold, by series, level and number."""
        return self.c.execute(
            "SELECT series, level, number, first, last, count, steps, data FROM packs ORDER BY 1, 2, 3"
        ).fetchall()


def steps_of(gaps):
    return np.cumsum(gaps).tolist()


RUNS = st.lists(st.tuples(st.sampled_from([1, 1, 1, 1, 3]), NUMBERS), max_size=260)


@settings(deadline=None, max_examples=60)
@given(RUNS, st.integers(0, 500), st.integers(0, 500), st.integers(4, 300))
def test_what_a_screen_gets(run, first, length, points):
    with pytest.MonkeyPatch.context() as patch:
        _small(patch)
        held = Series()
        for step, (_, value) in zip(steps_of([gap for gap, _ in run]), run):
            held.add(step, value)
        held.pack()
        last = first + length
        steps, values = held.expected(first, last)
        reading = held.reading(first, last)
        got_steps, got_values = reading.values(1)
        assert got_steps.tolist() == steps.tolist()
        np.testing.assert_array_equal(got_values, values)
        parts = reading.summaries(1, points)
        assert parts["count"].sum() == len(steps)
        drawn_steps, drawn, stands_for = reading.points(1, points)
        assert stands_for == len(steps)
        assert len(drawn) <= points
        assert (np.diff(drawn_steps) > 0).all()
        if points >= len(steps):
            assert drawn_steps.tolist() == steps.tolist()
        for step, value in zip(drawn_steps.tolist(), drawn):  # true values at their true steps
            np.testing.assert_equal(value, held.known[step])
        if len(steps):
            assert {drawn_steps[0], drawn_steps[-1]} == {steps[0], steps[-1]}
        known = values[~np.isnan(values)]
        if len(known):
            assert np.nanmin(drawn) == known.min()
            assert np.nanmax(drawn) == known.max()


@settings(deadline=None, max_examples=60)
@given(RUNS, st.integers(0, 300), RUNS, st.lists(st.tuples(st.integers(0, 300), NUMBERS), max_size=3))
def test_going_back_is_as_if_one_had_never_gone_on(before, back_to, after, late):
    with pytest.MonkeyPatch.context() as patch:
        _small(patch)
        gone, stayed = Series(), Series()
        steps = steps_of([gap for gap, _ in before])
        for step, (_, value) in zip(steps, before):
            gone.add(step, value)
            if step <= back_to:
                stayed.add(step, value)
        gone.pack()
        gone.forget_after(back_to)
        for gap, value in zip(steps_of([gap for gap, _ in after]), [value for _, value in after]):
            for one in (gone, stayed):
                one.add(back_to + gap, value)
        for one in (gone, stayed):
            one.pack()
            for step, value in late:  # said a second time, or said late
                one.add(step, value)
            one.writer._rows = dict.fromkeys(one.writer._rows, 10_000)  # all that can be packed
            while one.writer.pack():
                pass
        for one in (gone, stayed):
            got_steps, got = one.reading().values(1)
            assert got_steps.tolist() == one.expected(0, 2**62)[0].tolist()
            np.testing.assert_array_equal(got, one.expected(0, 2**62)[1])
            parts = one.reading().summaries(1, 4)
            assert parts["count"].sum() == len(got)
            if len(got) and not np.isnan(got).all():
                assert np.nanmax(points_of(parts, 4)[1]) == np.nanmax(got)
        assert gone.known.keys() == stayed.known.keys()


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=60), st.integers(1, 8))
def test_summaries_of_summaries_are_those_of_the_values(values, most):
    values = np.array(values)
    parts = of_values(np.arange(len(values)), values)
    once = grouped(parts, 1)
    twice = grouped(grouped(parts, most), 1)
    for name in ("first_step", "last_step", "count", "finite", "low", "high", "first", "last"):
        np.testing.assert_array_equal(once[name], twice[name])
    np.testing.assert_allclose(once["sum"], twice["sum"], atol=1e-6)
    finite = values[np.isfinite(values)]
    if len(finite):
        np.testing.assert_allclose(mean_of(once)[0], finite.mean(), atol=1e-6)
    whole = merged(parts[None])
    for name in once.dtype.names:
        np.testing.assert_array_equal(whole[name], once[name])  # equal where both are NaN, too


def test_trailing_means_are_pandas_own_where_all_can_be_read():
    values = np.random.default_rng(0).normal(size=300)
    steps, means = trailing(of_values(np.arange(300), values), 25, 1000)
    np.testing.assert_allclose(means, pd.Series(values).rolling(25, min_periods=1).mean())
    assert len(steps) == 300
    steps, means = trailing(of_values(np.arange(300), values), 25, 40)
    assert len(steps) <= 40
    assert steps[-1] == 299
    np.testing.assert_allclose(means, pd.Series(values).rolling(25, min_periods=1).mean()[steps])


def test_a_long_series_through_the_writer(tmp_path):
    rng = np.random.default_rng(1)
    values = rng.normal(size=9000)
    values[[4321, 8765]] = 99, -99
    values[100] = np.nan
    writer = StoreWriter(tmp_path, interval=0.01)
    for step, value in enumerate(values):
        writer.scalars(step, {"loss": value, **({"eval/loss": value} if step % 50 == 0 else {})})
        if step % 9 == 0:
            writer.layers(step, [LayerRow("layers.1", step, 2.0, -0.5), LayerRow("layers.0", 1.0, 2.0, 0.5)])
    writer.close()
    reader = StoreReader(tmp_path)
    plain = reader.scalars.read(["loss", "eval/loss", "never"])
    np.testing.assert_array_equal(plain["loss"], values)
    assert plain.attrs["stands_for"] == {"loss": 9000, "eval/loss": 180, "never": 0}
    few = reader.scalars.read(["loss", "eval/loss"], points=100)
    assert few.attrs["stands_for"] == {"loss": 9000, "eval/loss": 180}
    assert few["loss"].notna().sum() <= 100
    assert few["loss"][4321] == 99
    assert few["loss"][8765] == -99
    assert {few["loss"].first_valid_index(), few["loss"].last_valid_index()} == {0, 8999}
    pd.testing.assert_frame_equal(
        reader.scalars.read(["loss"], points=100, first=4000, last=4099), plain.loc[4000:4099, ["loss"]], check_index_type=False
    )
    assert reader.scalars.latest() == {"loss": values[-1], "eval/loss": values[8950]}
    means = reader.scalars.means(["loss"], width=500, points=100)["loss"]
    exact = pd.Series(values).rolling(500, min_periods=1).mean()[means.index]
    assert len(means) <= 100
    assert (means - exact).abs().iloc[10:].max() < 0.06  # a bucket of 64 more or less among 500 values of spread 1
    layers = reader.layers.read()
    assert layers["layer"].tolist()[:2] == ["layers.1", "layers.0"]  # the model's order, not the alphabet's
    assert len(layers) == 2000
    few = reader.layers.read(points=50)
    assert few.attrs["stands_for"] == 1000
    assert len(few) <= 100
    one = few[few["layer"] == "layers.1"]
    assert one["norm_chosen_low"].min() == 0
    assert one["norm_chosen_high"].max() == 8991
    np.testing.assert_allclose(one["norm_chosen"], one["step"], atol=9)
    assert reader.layers.read(points=5000).equals(reader.layers.read().reindex(columns=reader.layers.read(points=5000).columns))
    with sqlite3.connect(tmp_path / "run.sqlite") as c:
        assert c.execute("SELECT count(*) FROM packs WHERE level = 1").fetchone()[0] > 0


def test_the_next_writer_goes_on(tmp_path):
    for part in range(3):
        writer = StoreWriter(tmp_path, interval=0.01)
        writer.forget_after(part * 1500)
        for step in range(part * 1500 + 1, part * 1500 + 2000):
            writer.scalars(step, {"loss": step + part / 10})
        writer.close()
    frame = StoreReader(tmp_path).scalars.read(["loss"])["loss"]
    assert frame.index.tolist() == list(range(1, 5000))
    assert frame[1500] == 1500
    assert frame[1501] == 1501.1
    assert frame[4999] == 4999.2


def test_a_store_of_another_version_says_so(tmp_path):
    StoreWriter(tmp_path).close()
    with sqlite3.connect(tmp_path / "run.sqlite") as c:
        c.execute("PRAGMA user_version=1")
    for opening in (StoreReader, StoreWriter):
        with pytest.raises(sqlite3.DatabaseError, match="another version of the lab"):
            opening(tmp_path)


def test_an_empty_store_says_so(tmp_path):
    (tmp_path / "run.sqlite").touch()
    for opening in (StoreReader, StoreWriter):
        with pytest.raises(sqlite3.DatabaseError, match="is empty; restore the file"):
            opening(tmp_path)
