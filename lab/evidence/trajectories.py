"""Numbers per pair from its margins over training: data-set cartography, area under the margin, and forgetting events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ["visits", "confidence", "variability", "correctness", "aum", "forgotten", "first_margin", "last_margin"]


def trajectory_numbers(visits: pd.DataFrame) -> pd.DataFrame:
    """Summarize the margins of each pair over its visits.

    Args:
        visits: One row per pair and visit: pair, step, margin (of the rewards), in any order. Rows of further models follow each
            other in time, with steps that go on counting.

    Returns:
        Index `pair`, in order of first appearance, and the columns
        visits: number of rows;
        confidence: mean of sigmoid(margin), the probability that the model gives the label (Swayamdipta et al. 2020);
        variability: standard deviation of it over the visits (NaN for one visit);
        correctness: share of the visits with a margin above 0;
        aum: area under the margin, its mean over the visits (Pleiss et al. 2020);
        forgotten: number of forgetting events, a margin above 0 followed by one of 0 or less (Toneva et al. 2019);
        first_margin, last_margin.
    """
    import pandas as pd

    if visits.empty:
        return pd.DataFrame(columns=NUMBERS, index=pd.Index([], name="pair"))
    visits = visits.sort_values("step", kind="stable")
    margin = visits["margin"].astype(float)
    right = margin > 0
    before = right.groupby(visits["pair"], sort=False).shift(fill_value=False)
    rows = pd.DataFrame(
        {
            "pair": visits["pair"],
            "margin": margin,
            "probability": 0.5 * (1 + np.tanh(margin / 2)),
            "right": right,
            "forgets": before & ~right,
        }
    )
    groups = rows.groupby("pair", sort=False)
    return pd.DataFrame(
        {
            "visits": groups.size(),
            "confidence": groups["probability"].mean(),
            "variability": groups["probability"].std(),
            "correctness": groups["right"].mean(),
            "aum": groups["margin"].mean(),
            "forgotten": groups["forgets"].sum(),
            "first_margin": groups["margin"].first(),
            "last_margin": groups["margin"].last(),
        }
    )[NUMBERS]
