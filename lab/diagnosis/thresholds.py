"""Thresholds of the checks, each declared once with range, unit and meaning; the dashboard builds its widgets from them.

The values are OURS, chosen so that ordinary runs of the embedded world have no findings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab.store.durable import write_json
from lab.store.folder import RunError

FILE_NAME = "thresholds.json"
"""File in a run's folder with the thresholds that were set for it."""


def threshold(default: float, meaning: str, unit: str = "", **limits: Any) -> Any:
    """Declare a threshold.

    Args:
        default: Its default.
        meaning: Explanation in one sentence.
        unit: "nats/token", "share", ...
        limits: pydantic's ge, gt, le, lt.
    """
    return Field(default, description=meaning, json_schema_extra={"unit": unit}, **limits)


class Thresholds(BaseModel):
    """The thresholds of all checks. Build them from user input with `parse`, which explains errors in one sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    chosen_fall: float = threshold(
        0.01, "The chosen answers count as fallen when their log-prob is this far below its start.", "nats/token", ge=0
    )
    chosen_fall_serious: float = threshold(0.06, "From this fall on it is a warning instead of a notice.", "nats/token", ge=0)
    rejected_fall: float = threshold(
        0.25, "The rejected answers count as collapsed when their log-prob is this far below its start.", "nats/token", gt=0
    )
    reversed_fall: float = threshold(
        0.005, "Training goes backwards when the chosen answers lose this much against the rejected.", "nats/token", ge=0
    )
    saturated_weight: float = threshold(
        0.05, "A pair has no gradient left when its weight is below this share of the weights at the start.", "share", ge=0, le=1
    )
    saturated_share: float = threshold(0.5, "Share of the latest pairs that may have no gradient left.", "share", ge=0, le=1)
    opposed_cosine: float = threshold(-0.9, "The two sides of a layer's gradient cancel below this cosine.", "cosine", ge=-1, le=1)
    opposed_share: float = threshold(0.5, "Share of the layers in which they may cancel.", "share", ge=0, le=1)
    largest_z: float = threshold(8.0, "A pair's z-score of the gap may be this far from 0.", "standard deviations", gt=0)
    smallest_spread: float = threshold(1e-5, "The gaps of the latest pairs are all alike below this spread.", "nats/token", ge=0)
    smallest_batch: float = threshold(4.0, "Pairs that a batch needs for a mean and a spread of its own.", "pairs", ge=2)
    pilot_share: float = threshold(
        0.1, "A pilot has no effect when it is below this share of its answer's log-ratio.", "share", ge=0, le=1
    )
    pinned_weight: float = threshold(
        0.05, "One side's weight is pinned below this share of its start, while the other side's is not.", "share", ge=0, le=1
    )
    spike_height: float = threshold(
        10.0, "A loss counts as a spike this many robust standard deviations above its median.", "deviations", gt=0
    )
    spike_size: float = threshold(0.5, "A spike must also exceed the median by this share of it.", "share", ge=0)
    held_out_gap: float = threshold(0.15, "Held-out accuracy may be this far behind training accuracy.", "share", ge=0, le=1)
    few_pairs: float = threshold(1000, "Pairs can be memorised if an epoch holds at most this many.", "pairs", ge=0)
    learned_accuracy: float = threshold(
        0.99, "Pairs count as learned when this share of them is ranked correctly in the last epoch.", "share", gt=0, le=1
    )
    change_jump: float = threshold(
        0.5, "The loss may rise by this share of its size right after a change of settings or pairs.", "share", ge=0
    )
    change_reach: float = threshold(20, "Steps after a change within which a jump is attributed to it.", "steps", ge=2)
    gradient_growth: float = threshold(3.0, "The gradient norm may grow to this many times its start.", "times", gt=1)
    loss_rise: float = threshold(0.1, "The loss may be this share above its start.", "share", ge=0)
    kl_limit: float = threshold(
        0.08, "The policy's own answers may be this far from the reference (KL divergence).", "nats/token", gt=0
    )
    valid_fall: float = threshold(0.1, "The share of valid answers may fall by this much.", "share", ge=0, le=1)
    smallest_move: float = threshold(
        0.0005, "The policy has not moved when the log-ratios of answers stay this close to 0.", "nats/token", ge=0
    )
    length_growth: float = threshold(1.3, "Sampled answers may become this many times as long as the reference's.", "times", gt=1)

    @classmethod
    def parse(cls, **values: Any) -> Thresholds:
        """Build thresholds from JSON values. Raises ValueError with one sentence that names the threshold and the problem."""
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            if name not in cls.model_fields:
                raise ValueError(f"There is no threshold {name!r}; choose one of {', '.join(cls.model_fields)}.") from None
            raise ValueError(f"The threshold {name} = {first['input']!r} does not work: {first['msg'].lower()}.") from None

    def changed(self) -> dict[str, float]:
        """Return the thresholds that differ from the defaults."""
        return {name: value for name, value in self if value != type(self).model_fields[name].default}


def read_thresholds(folder: Path) -> Thresholds:
    """Return the thresholds stored with the run in a folder, or the defaults. Raises RunError if their file is damaged."""
    try:
        content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        return Thresholds.parse(**content)
    except FileNotFoundError:
        return Thresholds()
    except (ValueError, TypeError, OSError) as error:
        raise RunError(f"{folder / FILE_NAME} cannot be used ({error}); delete it to restore the default thresholds.") from None


def write_thresholds(folder: Path, thresholds: Thresholds) -> None:
    """Store thresholds with the run in a folder, for every reader and for its monitor. Raises OSError if that fails."""
    changed = thresholds.changed()
    if changed:
        write_json(folder / FILE_NAME, changed)
    else:
        (folder / FILE_NAME).unlink(missing_ok=True)
