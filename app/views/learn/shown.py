"""The objectives of the Learn page with everything that is computed of them for its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from app.state.learn_address import LearnState
from app.text.plain import plain
from lab.objectives import Objective
from lab.teaching import FieldArrays, Reading, field_arrays, read_point


@dataclass(frozen=True)
class Shown:
    """An objective on the page, with its slot, its field over the plane and its numbers at the point."""

    slot: str
    objective: Objective
    arrays: FieldArrays
    reading: Reading

    @property
    def label(self) -> str:
        """Slot and name of the objective."""
        return f"{self.slot} · {self.objective.name}"


def compute(objectives: Mapping[str, Objective], state: LearnState) -> list[Shown]:
    """Compute every objective; draw one sentence for each that cannot be computed."""
    shown = []
    for slot, objective in objectives.items():
        try:
            arrays = field_arrays(objective, state.plane, rate=state.rate)
            reading = read_point(objective, state.plane, state.point, rate=arrays.rate)
        except Exception as error:  # a registered objective may be user code, which can raise anything
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            st.error(plain(f"{slot} · {objective.name} cannot be drawn: {reason}"))
            continue
        shown.append(Shown(slot, objective, arrays, reading))
    return shown
