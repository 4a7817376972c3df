"""What follows from the recorded terms of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


MARGIN = "margin"


def with_margin(frame: pd.DataFrame) -> pd.DataFrame:
    """Pair terms with one more column, `margin`: the reward of the chosen answer minus that of the rejected one (no unit)."""
    if not {"reward_chosen", "reward_rejected"} <= set(frame.columns):
        return frame
    return frame.assign(**{MARGIN: frame["reward_chosen"] - frame["reward_rejected"]})
