"""An objective of the Learn page, and the message where something of it cannot be computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import plotly.graph_objects as go
import streamlit as st

from app.text.plain import plain
from app.widgets.figure import dark, show
from lab.objectives import Objective
from lab.plots.style import for_projector

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Shown:
    """An objective on the page and its slot."""

    slot: str
    objective: Objective

    @property
    def label(self) -> str:
        """Slot and name of the objective."""
        return f"{self.slot} · {self.objective.name}"


def attempt(one: Shown, compute: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Return what a function computes of an objective; draw one sentence and return None if it fails."""
    try:
        return compute(*args, **kwargs)
    except Exception as error:  # a registered objective may be user code, which can raise anything
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        st.error(plain(f"{one.label} cannot be computed: {reason}"))
        return None


def show_figure(figure: go.Figure, key: str, *, large: bool, name: str = "figure") -> None:
    """Draw a figure; `large` for a projector."""
    show(for_projector(figure, dark()) if large else figure, key=key, name=name)
