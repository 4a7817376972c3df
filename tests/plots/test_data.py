"""The numbers behind a figure, whole, and the files that are made of them."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from lab.plots import FIGURES, FORMATS, Record, figure_data, figure_file
from lab.store import RunError
from tests.plots.test_figures import Filled


@pytest.fixture
def filled(tmp_path: Path):
    made = Filled(tmp_path / "run")
    yield made
    made.store.close()


def test_every_figure_has_its_data(filled: Filled) -> None:
    record = Record(filled.train(1, 5).reader)
    for name in FIGURES:
        frame = figure_data(record, name)
        assert isinstance(frame, pd.DataFrame), name
    with pytest.raises(ValueError, match="no figure 'nothing'"):
        figure_data(record, "nothing")


def test_a_curve_is_whole_where_its_figure_is_thinned(filled: Filled) -> None:
    run = filled.train(1, 1500)
    frame = figure_data(run.reader, "loss")
    assert frame["step"].tolist() == list(range(1, 1501))
    assert frame["loss"].to_numpy() == pytest.approx(run.scalars(["loss"])["loss"].to_numpy())


def test_a_spread_is_every_value_of_every_pair(filled: Filled) -> None:
    run = filled.train(1, 700)
    frame = figure_data(run.reader, "distribution:pilot_chosen")
    assert len(frame) == 700 * 4
    last = run.reader.pairs.batch(700).set_index("pair")["pilot_chosen"]
    mine = frame[frame["step"] == 700].set_index("pair")["pilot_chosen"]
    pd.testing.assert_series_equal(mine.sort_index(), last.sort_index())


def test_nothing_later_than_the_moment(filled: Filled) -> None:
    record = Record(filled.train(1, 60).reader, until=25)
    for name in ("loss", "layers", "plane", "distribution:pilot_chosen"):
        assert figure_data(record, name)["step"].max() == 25, name


def test_a_run_writes_what_its_figure_stands_for_within_the_steps_that_are_asked(filled: Filled, tmp_path: Path) -> None:
    run = filled.train(1, 1500)
    steps = pd.read_csv(run.export("figure:loss", tmp_path / "loss.csv", first=100, last=1400))["step"]
    assert steps.tolist() == list(range(100, 1401))
    page = run.export("figure:margins", tmp_path / "margins.html", last=25).read_text(encoding="utf-8")
    assert "25 values" in page
    with pytest.raises(RunError, match="left unchanged"):
        run.export("figure:margins", tmp_path / "margins.html")
    with pytest.raises(RunError, match="cannot be written"):
        run.export("figure:margins", tmp_path / "nowhere" / "margins.html")


def test_intervals_go_with_their_curve(filled: Filled) -> None:
    run = filled.train(1, 5)
    filled.store.scalars(5, {"eval/kl": 0.5})
    filled.store.event(5, "evaluation", kl_low=0.4, kl_high=0.6)
    filled.store.flush()
    row = figure_data(run.reader, "kl").iloc[0]
    assert dict(row) == pytest.approx({"step": 5, "eval/kl": 0.5, "low": 0.4, "high": 0.6})


@pytest.mark.parametrize("dark", [False, True])
def test_files_hold_the_same_numbers_and_the_page_needs_nothing_else(filled: Filled, dark: bool) -> None:
    reader = filled.train(1, 30).reader
    wanted = figure_data(reader, "rewards")
    csv = pd.read_csv(io.BytesIO(figure_file(reader, "rewards", "CSV")))
    parquet = pd.read_parquet(io.BytesIO(figure_file(reader, "rewards", "Parquet")))
    pd.testing.assert_frame_equal(parquet, wanted)
    pd.testing.assert_frame_equal(csv, wanted, check_exact=False)
    page = figure_file(reader, "rewards", "HTML", dark).decode()
    assert "Rewards of both sides" in page
    assert "Plotly.newPlot" in page
    assert '<script src="http' not in page
    assert '"paper_bgcolor":"#' in page
    assert set(FORMATS) == {"CSV", "Parquet", "HTML"}
    with pytest.raises(ValueError, match="no file format 'PDF'"):
        figure_file(reader, "rewards", "PDF")


def test_a_run_without_a_step_has_files_too(filled: Filled) -> None:
    for kind in FORMATS:
        assert figure_file(filled.run.reader, "loss", kind)
    assert figure_data(filled.run.reader, "loss").empty
