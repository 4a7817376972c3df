"""A run's numbers as files: what is in them is what was recorded; nothing half written, nothing overwritten."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from lab.store import DataExportError, LayerRow, PanelRow, StoreReader, StoreWriter, TokenRow, data_export, export


@pytest.fixture
def reader(tmp_path, monkeypatch):
    monkeypatch.setattr(data_export, "STEPS", 7)
    monkeypatch.setattr(data_export, "FEW_STEPS", 3)
    (tmp_path / "run").mkdir()
    writer = StoreWriter(tmp_path / "run")
    for step in range(5, 30):
        writer.scalars(step, {"loss": 1 / step, **({"eval/loss": step} if step == 20 else {}), "grad_norm": np.nan})
        writer.pair_terms(step, ["a", 'b "quoted", ü'], [1, 2], {"logit": np.array([step, -step]), "loss": np.array([0.5, 0.25])})
        writer.event(step, "warning", message="careful, ü", at=step)
        if step % 4 == 0:
            writer.layers(step, [LayerRow("layers.0", step, 2.0, -0.5)])
            writer.held_out(step, ["h"], [0], {"logit": np.array([step])})
            writer.panel(step, [PanelRow("h", -1.0, -2.0, -0.5, 3, 4, 5, "an answer, ü", step != 8)])
    row = TokenRow("a", "chosen", np.array([4, 5]), np.array([-1.0, np.nan]), None, np.array([0.1, 0.2]), np.array([True, False]))
    writer.tokens(29, [row])
    writer.close()
    return StoreReader(tmp_path / "run")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_every_table_comes_back(reader, tmp_path, ending):
    def written(what, **span):
        path = export(reader, what, tmp_path / f"{what}{len(span)}.{ending}", **span)
        return pd.read_csv(path) if ending == "csv" else pd.read_parquet(path)

    scalars = written("scalars")
    plain = reader.scalars.read()
    assert scalars["step"].tolist() == list(range(5, 30))
    for name in plain.columns:
        np.testing.assert_allclose(scalars[name], plain[name])
    assert written("scalars", first=8, last=11)["step"].tolist() == [8, 9, 10, 11]
    pairs = written("pairs")
    assert pairs["pair"].tolist() == ["a", 'b "quoted", ü']
    assert pairs["logit"].tolist() == [29, -29]
    assert written("pairs", last=9)["logit"].tolist() == [9, -9]
    terms = written("terms")
    assert len(terms) == 50
    assert terms["step"].is_monotonic_increasing
    assert written("held_out")["logit"].tolist() == [8, 12, 16, 20, 24, 28]
    panel = written("panel")
    assert panel["step"].tolist() == [8, 12, 16, 20, 24, 28]
    assert panel["ended"].tolist() == [False] + [True] * 5
    assert set(panel["answer"]) == {"an answer, ü"}
    assert written("layers")["norm_chosen"].tolist() == [8, 12, 16, 20, 24, 28]
    events = written("events", first=7)
    assert [json.loads(detail) for detail in events["detail"]] == [{"message": "careful, ü", "at": s} for s in range(7, 30)]
    token = written("tokens").iloc[0]
    assert (token["step"], token["side"], json.loads(token["ids"]), json.loads(token["logps"])) == (
        29,
        "chosen",
        [4, 5],
        [-1, None],
    )
    assert json.loads(token["pilot"]) == [True, False]
    assert pd.isna(token["ref_logps"])


@pytest.mark.parametrize("what", ["scalars", "pairs", "terms", "held_out", "panel", "layers", "events", "tokens"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_empty_run_gives_a_table_without_rows(tmp_path, what, ending):
    StoreWriter(tmp_path).close()
    path = export(StoreReader(tmp_path), what, tmp_path / f"empty.{ending}")
    frame = pd.read_csv(path) if ending == "csv" else pd.read_parquet(path)
    assert frame.empty
    assert len(frame.columns)


def test_what_cannot_be_written_says_so(reader, tmp_path):
    with pytest.raises(DataExportError, match=r"no table 'losses'.*scalars, pairs"):
        export(reader, "losses", tmp_path / "x.csv")
    with pytest.raises(DataExportError, match=r"ends in \.csv or \.parquet"):
        export(reader, "scalars", tmp_path / "x.xlsx")
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(DataExportError, match="left unchanged"):
        export(reader, "scalars", tmp_path / "there.csv")
    assert (tmp_path / "there.csv").read_text() == "mine"
    with pytest.raises(DataExportError, match="cannot be written"):
        export(reader, "scalars", tmp_path / "nowhere" / "x.csv")
    assert not list(tmp_path.glob(".*draft"))
