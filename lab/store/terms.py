"""Terms of pairs that are derived from recorded ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


MARGIN = "margin"


def with_margin(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the column `margin`, reward of the chosen minus reward of the rejected answer, if the frame has both rewards."""
    if not {"reward_chosen", "reward_rejected"} <= set(frame.columns):
        return frame
    return frame.assign(**{MARGIN: frame["reward_chosen"] - frame["reward_rejected"]})
