"""Old pair terms are thinned as the policy says and no further, at any moment; readers see a whole store throughout."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.store import StoreReader, StoreWriter, thinning
from lab.store.schema import TABLES
from lab.store.thinning import STEPS, Thinner, extremes, first_of_each, tier

B = 4
PAIRS = 30


def batch_of(step):
    """Pairs and terms of a step, the same whenever it is asked: a spike every now and then, NaN too."""
    rng = np.random.default_rng(step)
    pairs = rng.choice(PAIRS, B, replace=False)
    loss = rng.normal(size=B).astype(np.float32)
    if step % 97 == 13:
        loss[1] = 1000 + step
    if step % 89 == 7:
        loss[2] = np.nan
    return [f"p{i:02d}" for i in pairs], {"loss": loss, "logit": np.full(B, step, np.float32)}


def write(writer, steps):
    for step in steps:
        pairs, terms = batch_of(step)
        writer.pair_terms(step, pairs, [step % 3] * B, terms)
        writer.status(step=step)


def settle(writer):
    writer.flush()
    until = time.monotonic() + 30
    while writer._thinner.due() and time.monotonic() < until:
        time.sleep(0.01)
    writer.close()
    assert writer.failure is None


@pytest.fixture(scope="module")
def thinned(tmp_path_factory):
    """A run of 3,000 steps of which 200 are kept whole, with a warning in step 300, and what was written."""
    folder = tmp_path_factory.mktemp("thinned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thinning, "SNAPSHOT_ROWS", 400)
        writer = StoreWriter(folder, keep_pair_rows=200 * B, interval=0.01)
        write(writer, range(1, 301))
        writer.event(301, "warning", message="careful")
        writer.event(400, "checkpoint", folder="x")
        write(writer, range(301, 3001))
        settle(writer)
    rows = [
        {"pair": pair, "step": step, **{name: values[i] for name, values in terms.items()}}
        for step in range(1, 3001)
        for pairs, terms in [batch_of(step)]
        for i, pair in enumerate(pairs)
    ]
    return StoreReader(folder), pd.DataFrame(rows)


def test_the_latest_steps_are_whole(thinned):
    reader, _ = thinned
    for step in range(2801, 3001):
        assert reader.pairs.batch(step)["pair"].tolist() == batch_of(step)[0]


def done(reader):
    """How far each tier has got: {tier: first step of the window that is next}."""
    with sqlite3.connect(reader.folder / "run.sqlite") as c:
        return dict(c.execute("SELECT tier, upto FROM thinned ORDER BY tier").fetchall())


def test_older_steps_are_as_thin_as_the_policy_says(thinned):
    reader, _ = thinned
    with sqlite3.connect(reader.folder / "run.sqlite") as c:
        steps = np.array([step for (step,) in c.execute("SELECT step FROM batches ORDER BY step")])
    upto = done(reader)
    assert set(upto) == {1, 2, 3, 4}
    for number, end in upto.items():
        limit = 3000 - (200 << (number - 1)) + 1
        assert limit - (STEPS << number) < end <= limit  # no window too many, none too few
        for start in range(max(upto.get(number + 1, 0), 1 << number), end, 1 << number):
            left = ((steps >= start) & (steps < start + (1 << number))).sum()
            assert left == 1 or 280 < start < 305, (number, start)
    assert len(steps) <= 200 * (1 + np.log2(3000 / 200) / 2) + STEPS * 2**4


def test_beside_a_warning_every_step_is_whole(thinned):
    reader, _ = thinned
    assert all(len(reader.pairs.batch(step)) == B for step in (300, 301, 302))
    assert not all(len(reader.pairs.batch(step)) for step in (399, 400, 401))  # a checkpoint is nothing that people look for


def test_every_pairs_first_and_latest_row_are_kept(thinned):
    reader, written = thinned
    for pair, rows in written.groupby("pair"):
        history = reader.pairs.history(pair)
        assert reader.pairs.steps_of(pair) == history["step"].tolist()
        assert history["step"].iloc[0] == rows["step"].min()
        assert history["step"].iloc[-1] == rows["step"].max()
        assert history["step"].is_unique
        both = history.merge(rows, on="step", suffixes=("", "_written"))
        assert len(both) == len(history)
        np.testing.assert_array_equal(both["loss"], both["loss_written"])
    few = reader.pairs.history("p00", points=5)
    assert len(few) == 5
    assert few["step"].iloc[[0, -1]].tolist() == reader.pairs.history("p00")["step"].iloc[[0, -1]].tolist()


def test_extremes_are_kept(thinned):
    reader, written = thinned
    kept, upto, checked = reader.pairs.read(), done(reader), 0
    for number, end in upto.items():
        width = STEPS << number
        for start in range(upto.get(number + 1, 0), end, width):
            remaining, all_rows = (frame[frame["step"].between(start, start + width - 1)] for frame in (kept, written))
            for term in ("loss", "logit"):
                assert remaining[term].max() == all_rows[term].max()
                assert remaining[term].min() == all_rows[term].min()
            checked += 1
    assert checked > 20
    assert len(kept) < len(written) / 3


def test_pairs_as_they_were_at_any_step(thinned):
    reader, written = thinned
    kept = reader.pairs.read()
    for step in (1, 2, 50, 333, 1500, 2799, 2950, 3000):
        result = reader.pairs.latest(step).set_index("pair")
        past = kept[kept["step"] <= step].groupby("pair")["step"].max()
        assert (
            result["step"] >= past.reindex(result.index).fillna(0)
        ).all()  # a snapshot may know more than the rows that are left
        assert set(past.index) <= set(result.index)
        for pair, row in result.iterrows():
            true = written[(written["pair"] == pair) & (written["step"] == row["step"])]
            np.testing.assert_array_equal(true["loss"], [np.float32(row["loss"])])
            assert row["version"] == row["step"] % 3
        if step > 2800:  # nothing has been thinned since every pair was last seen
            true = written[written["step"] <= step].groupby("pair")["step"].max()
            assert result["step"].sort_index().tolist() == true.tolist()
    assert reader.pairs.latest().equals(reader.pairs.latest(3000))


def test_terms_over_time_find_steps_that_are_left(thinned):
    reader, _ = thinned
    frame = reader.pairs.over_time(["loss", "unknown"], columns=40)
    assert frame["step"].nunique() > 30
    assert frame.groupby("step").size().eq(B).all()
    assert frame["unknown"].isna().all()
    assert reader.pairs.over_time(["loss"], last=500)["step"].max() <= 500
    assert reader.pairs.over_time(["loss"], last=0).empty
    assert reader.pairs.over_time(["loss"], rows_per_column=2).groupby("step").size().eq(2).all()
    assert reader.pairs.term_names() == ("loss", "logit")


def test_nothing_is_thinned_where_all_is_to_be_kept(tmp_path):
    writer = StoreWriter(tmp_path, keep_pair_rows=0, interval=0.01)
    write(writer, range(1, 600))
    settle(writer)
    assert len(StoreReader(tmp_path).pairs.read()) == 599 * B


def tables(folder):
    with sqlite3.connect(folder / "run.sqlite") as c:
        names = dict(c.execute("SELECT id, pair FROM pairs").fetchall())
        ids = np.array([names.get(i, "") for i in range(max(names) + 1)])
        rows = c.execute("SELECT step, pairs, terms FROM batches ORDER BY step").fetchall()
        kept = c.execute("SELECT step, pair, terms FROM kept").fetchall()
        return [(s, ids[np.frombuffer(p, np.int32)].tolist(), t) for s, p, t in rows], sorted((s, names[p], t) for s, p, t in kept)


@pytest.mark.parametrize("back_to", [990, 937])
def test_going_back_and_on_is_as_if_one_had_never_gone_on(tmp_path, back_to):
    """As long as the checkpoint is younger than what is kept whole."""
    for name in ("stayed", "gone"):
        (tmp_path / name).mkdir()
        writer = StoreWriter(tmp_path / name, keep_pair_rows=64 * B, interval=0.01)
        write(writer, range(1, back_to + 1))
        if name == "gone":
            write(writer, range(back_to + 1, 1001))
            writer.flush()
            writer.forget_after(back_to)
        write(writer, range(back_to + 1, 1200))
        settle(writer)
    assert tables(tmp_path / "stayed") == tables(tmp_path / "gone")
    one, other = (StoreReader(tmp_path / name).pairs for name in ("stayed", "gone"))
    pd.testing.assert_frame_equal(
        one.latest().sort_values("pair", ignore_index=True), other.latest().sort_values("pair", ignore_index=True)
    )


@settings(deadline=None)
@given(st.integers(1, 10**7), st.integers(1, 10**5))
def test_tiers_double_with_age(age, whole):
    number = tier(age, whole)
    assert age <= whole << number
    assert number == 0 or age > whole << (number - 1)


@settings(deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, unique=True).map(sorted), st.integers(0, 5))
def test_what_is_left_at_one_tier_holds_what_is_left_at_the_next(steps, number):
    steps = np.array(steps)
    coarse, fine = (set(steps[first_of_each(steps, 1 << n)].tolist()) for n in (number + 1, number))
    assert coarse <= fine
    assert len({step >> number for step in steps.tolist()}) == len(fine)


@settings(deadline=None)
@given(st.lists(st.lists(st.one_of(st.just(np.nan), st.floats(-9, 9)), min_size=3, max_size=3), min_size=1, max_size=30))
def test_extremes_of_every_column(rows):
    table = np.array(rows)
    result = table[extremes(table)]
    for column, left in zip(table.T, result.T if len(result) else np.full((3, 0), np.nan)):
        if not np.isnan(column).all():
            assert np.nanmin(left) == np.nanmin(column)
            assert np.nanmax(left) == np.nanmax(column)


def test_a_piece_is_small_and_whole(tmp_path):
    """Between any two pieces the store is right: the policy's work can be broken off there, as by kill -9."""
    c = sqlite3.connect(":memory:", isolation_level=None)
    c.executescript(TABLES)
    thinner = Thinner(c, 32 * B)
    thinner.note(4000, B)
    seen = []
    while (window := thinner._next()) is not None:
        assert window not in seen
        seen.append(window)
        thinner.piece()
    for number in {number for number, _ in seen}:
        starts = [start for tier_, start in seen if tier_ == number]
        assert starts == sorted(starts)
        assert max(starts) + 2 * (STEPS << number) > 4000 - (32 << (number - 1)) - (STEPS << number)


def _train(folder, ready):
    writer = StoreWriter(folder, keep_pair_rows=200 * B, interval=0.01)
    for step in range(1, 1_000_000):
        write(writer, [step])
        writer.scalars(step, {"loss": step})
        if step % 250 == 0:
            writer.flush()
        if step == 1500:
            ready.set()


def test_a_store_survives_kill_9_and_the_next_writer_goes_on(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_train, args=(tmp_path, ready), daemon=True)
    process.start()
    assert ready.wait(60)
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    reader = StoreReader(tmp_path)
    last = reader.step
    frame = reader.scalars.read(["loss"])["loss"]
    np.testing.assert_array_equal(frame.index, np.arange(1, len(frame) + 1))
    np.testing.assert_array_equal(frame, np.arange(1, len(frame) + 1))
    writer = StoreWriter(tmp_path, keep_pair_rows=200 * B, interval=0.01)
    writer.forget_after(1400)
    write(writer, range(1401, last + 500))
    settle(writer)
    assert len(StoreReader(tmp_path).pairs.latest()) == PAIRS
    assert len(StoreReader(tmp_path).pairs.batch(last + 499)) == B
