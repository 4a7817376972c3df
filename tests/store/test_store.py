"""The run store: what goes in comes out, readers everywhere, failures that hurt nobody."""

from __future__ import annotations

import math
import multiprocessing
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.run import RunLock, is_held, send, take
from lab.store import LayerRow, PanelRow, StoreReader, StoreWriter, TokenRow, spike_keeping


def test_everything_comes_back(tmp_path):
    writer = StoreWriter(tmp_path, token_steps=2)
    for step in range(1, 6):
        writer.scalars(step, {"loss": 1 / step, "grad_norm": step})
        writer.pair_terms(step, ["a", "b"], [1, 2], {"logit": np.array([step, -step]), "loss": np.array([0.5, 0.25])})
        row = TokenRow("a", "chosen", np.array([4, 5]), np.array([-1.0, -2.0]), None, np.array([0.1, 0.2]), np.array([True, False]))
        writer.tokens(step, [row])
    writer.layers(3, [LayerRow("layers.0", 1.0, 2.0, -0.5, 0.001), LayerRow("norm", 0.5, 0.0, 0.0)])
    writer.event(4, "warning", message="careful")
    writer.status(state="running", step=5)
    assert writer.flush()
    reader = StoreReader(tmp_path)
    assert reader.scalars.read(["loss"])["loss"].tolist() == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert reader.scalars.names() == ["grad_norm", "loss"]
    pairs = reader.pairs.latest().set_index("pair")
    assert pairs.loc["b", "logit"] == -5
    assert pairs.loc["b", "version"] == 2
    assert reader.pairs.latest(step=2).set_index("pair").loc["a", "logit"] == 2
    assert reader.pairs.batch(3)["logit"].tolist() == [3, -3]
    assert reader.pairs.history("a")["step"].tolist() == [1, 2, 3, 4, 5]
    assert reader.pairs.steps_of("a") == [1, 2, 3, 4, 5]
    assert reader.pairs.steps_of("nobody") == []
    assert reader.pairs.history("a", points=2).attrs["stands_for"] == 5
    assert reader.tokens.steps() == [4, 5]
    tokens = reader.tokens.read(5, "a").iloc[0]
    assert tokens["ids"].tolist() == [4, 5]
    assert tokens["ref_logps"] is None
    assert tokens["pilot"].tolist() == [True, False]
    layers = reader.layers.read()
    assert layers.columns.tolist() == ["step", "layer", "norm_chosen", "norm_rejected", "cosine", "update_ratio"]
    assert layers.iloc[0].tolist() == [3, "layers.0", 1.0, 2.0, -0.5, 0.001]
    assert math.isnan(layers["update_ratio"].iloc[1])
    assert reader.events.read("warning")["detail"].tolist() == [{"message": "careful"}]
    assert reader.status() == {"state": "running", "step": 5}
    writer.forget_after(3)
    writer.flush()
    assert reader.scalars.read(["loss"]).index.tolist() == [1, 2, 3]
    assert reader.pairs.batch(4).empty
    writer.close()


def test_looks_at_the_panel_come_back(tmp_path):
    writer = StoreWriter(tmp_path)
    for step in (0, 4, 9):
        rows = [PanelRow(pair, -10.0 - step, -20.0, -5.5, 10, 12, 7, f"answer <{step}>", step > 0) for pair in ("h", "a")]
        writer.panel(step, rows)
    writer.flush()
    reader = StoreReader(tmp_path)
    scores = reader.panel.read()
    assert scores["step"].tolist() == [0, 0, 4, 4, 9, 9]
    assert scores[scores["pair"] == "a"]["chosen"].tolist() == [-10, -14, -19]
    assert scores.iloc[0].tolist() == [0, "h", -10.0, -20.0, -5.5, 10, 12, 7, "answer <0>", False]
    assert reader.panel.read(last=8)["step"].max() == 4
    assert reader.panel.read(first=5)["step"].unique().tolist() == [9]
    writer.forget_after(4)
    writer.flush()
    assert reader.panel.read()["step"].max() == 4
    writer.close()


def test_held_out_pairs_stand_apart(tmp_path):
    writer = StoreWriter(tmp_path)
    for step in (0, 4):
        writer.held_out(step, ["h", "a"], [1, 3], {"loss": np.array([step, 7.0])})
    for step in (1, 4, 5):
        writer.pair_terms(step, ["a"], [2], {"logit": np.array([step])})
    writer.flush()
    reader = StoreReader(tmp_path)
    assert reader.held_out.latest()["loss"].tolist() == [4, 7]
    assert reader.held_out.latest()["version"].tolist() == [1, 3]
    assert reader.held_out.latest(step=3)["step"].tolist() == [0, 0]
    assert reader.pairs.latest()["pair"].tolist() == reader.pairs.batch(4)["pair"].tolist() == ["a"]
    assert set(reader.pairs.over_time(["logit"])["pair"]) == {"a"}
    assert reader.pairs.history("h")["step"].tolist() == [0, 4]
    assert reader.pairs.history("a")["step"].tolist() == [0, 1, 4, 4, 5]  # an edit of its prompt took it from one side to the other
    writer.forget_after(3)
    writer.flush()
    assert reader.held_out.latest()["step"].tolist() == [0, 0]
    writer.forget_after(-1)
    writer.flush()
    assert reader.held_out.latest().empty
    writer.close()


def test_nan_and_infinity_and_unknown_names(tmp_path):
    writer = StoreWriter(tmp_path)
    writer.scalars(1, {"loss": math.nan, "grad_norm": math.inf})
    writer.close()
    frame = StoreReader(tmp_path).scalars.read(["loss", "grad_norm", "never"])
    assert math.isnan(frame["loss"][1])
    assert frame["grad_norm"][1] == math.inf
    assert frame["never"].isna().all()


def test_terms_may_change_in_the_middle_of_a_run(tmp_path):
    writer = StoreWriter(tmp_path)
    writer.pair_terms(1, ["a"], [1], {"loss": np.array([1.0])})
    writer.pair_terms(2, ["a"], [1], {"loss": np.array([2.0]), "z": np.array([3.0])})
    writer.close()
    history = StoreReader(tmp_path).pairs.history("a")
    assert history["loss"].tolist() == [1, 2]
    assert math.isnan(history["z"][0])
    assert history["z"][1] == 3


def test_a_folder_without_a_store_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no record of a run"):
        StoreReader(tmp_path)


def test_a_store_that_cannot_be_written_stops_nobody(tmp_path):
    writer = StoreWriter(tmp_path)
    writer.scalars(1, {"loss": 1.0})
    writer.flush()
    writer._connection.execute("DROP TABLE recent")
    writer.scalars(2, {"loss": 2.0})
    assert writer.flush()
    assert writer.lost == 1
    assert "recent" in writer.failure
    writer.close()


def test_a_store_that_cannot_be_thinned_still_records(tmp_path, monkeypatch):
    def broken(_):
        raise OSError("no room for that")

    monkeypatch.setattr("lab.store.thinning.Thinner._thin", lambda self, *_: broken(self))
    writer = StoreWriter(tmp_path, keep_pair_rows=1, interval=0.01)
    for step in range(1, 400):
        writer.pair_terms(step, ["a"], [0], {"loss": np.array([step])})
        writer.scalars(step, {"loss": step})
        if step % 100 == 0:
            writer.flush()
    writer.close()
    assert writer.lost == 0
    assert "no room" in writer.failure
    assert len(StoreReader(tmp_path).pairs.history("a")) == len(StoreReader(tmp_path).scalars.read(["loss"])) == 399


def test_readers_in_other_threads_see_a_growing_run(tmp_path):
    writer = StoreWriter(tmp_path, interval=0.01)
    reader = StoreReader(tmp_path)
    seen, errors = [], []

    def look():
        try:
            for _ in range(30):
                seen.append(len(reader.scalars.read(["loss"])))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for step in range(300):
        writer.scalars(step, {"loss": step})
    for thread in threads:
        thread.join()
    writer.close()
    assert not errors
    assert len(reader.scalars.read(["loss"])) == 300


@settings(deadline=None)
@given(st.lists(st.floats(allow_infinity=False), min_size=3, max_size=400), st.integers(4, 60))
def test_no_spike_is_lost(values, points):
    values = np.array(values)
    keep = spike_keeping(values, points)
    assert len(keep) <= points
    assert (np.diff(keep) > 0).all()
    assert {0, len(values) - 1} <= set(keep.tolist())
    finite = values[~np.isnan(values)]
    if len(finite):
        assert finite.max() in values[keep]
        assert finite.min() in values[keep]


def test_requests_arrive_once_and_in_order(tmp_path):
    for kind in ("pause", "resume", "stop"):
        send(tmp_path, kind)
    assert [r.kind for r in take(tmp_path)] == ["pause", "resume", "stop"]
    assert take(tmp_path) == []
    with pytest.raises(ValueError, match="There is no request"):
        send(tmp_path, "dance")


def _hold(folder, ready, leave):
    lock = RunLock(folder)
    ready.set()
    leave.wait()
    lock.release()


def test_the_lock_dies_with_its_process(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, leave))
    assert not is_held(tmp_path)
    process.start()
    assert ready.wait(30)
    assert is_held(tmp_path)
    with pytest.raises(RuntimeError, match="Another process or thread trains"):
        RunLock(tmp_path, patience=0.1)
    process.kill()
    process.join()
    assert not is_held(tmp_path)
    RunLock(tmp_path).release()
