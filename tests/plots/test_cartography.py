"""The data map: a point per pair with its id, and what is drawn of large and of empty sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from lab.plots.pair_set import cartography
from lab.plots.pair_set.cartography import MOST_POINTS


def frame_of(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "pair_id": [f"p{i}" for i in range(count)],
            "confidence": rng.random(count),
            "variability": rng.random(count) / 2,
            "probability": rng.random(count),
        }
    )


@pytest.mark.parametrize("dark", [False, True])
def test_every_pair_is_a_point_with_its_id(dark):
    frame = frame_of(20)
    drawn = cartography(frame, dark=dark)
    go.Figure(drawn.to_plotly_json())  # validates
    (points,) = drawn.data
    assert [row[0] for row in points["customdata"]] == list(frame["pair_id"])
    for values, name in ((points["x"], "variability"), (points["y"], "confidence"), (points["marker"]["color"], "probability")):
        np.testing.assert_allclose(values, frame[name], rtol=1e-6)
    assert drawn.layout.dragmode == "select"


def test_of_many_pairs_the_most_suspicious_are_drawn():
    frame = frame_of(2 * MOST_POINTS)
    (points,) = cartography(frame).data
    drawn = {row[0] for row in points["customdata"]}
    assert len(drawn) == MOST_POINTS
    assert set(frame.nlargest(MOST_POINTS // 2, "probability")["pair_id"]) <= drawn


def test_a_point_names_the_range_of_its_probability_where_it_is_known():
    frame = frame_of(3).assign(probability_if_few=0.1, probability_if_many=[0.2, 0.3, 0.4])
    (points,) = cartography(frame).data
    assert [list(row) for row in points["customdata"]] == [["p0", 0.1, 0.2], ["p1", 0.1, 0.3], ["p2", 0.1, 0.4]]
    assert "customdata[2]" in points["hovertemplate"]
    (points,) = cartography(frame.assign(probability_if_many=np.nan)).data
    assert "customdata[2]" not in points["hovertemplate"]


def test_pairs_seen_once_are_counted_and_left_out():
    frame = frame_of(5).assign(correctness=1.0).drop(columns="probability")
    frame.loc[0, "variability"] = np.nan
    drawn = cartography(frame)
    assert len(drawn.data[0]["x"]) == 4
    assert "4 pairs, 1 seen once" in drawn.layout.title.text
    assert not cartography(frame.assign(variability=np.nan)).data
    assert not cartography(pd.DataFrame()).data
