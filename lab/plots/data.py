"""Data of a figure, unthinned, and a figure as a file.

Example:
    figure_data(run.reader, "margins").to_csv("margins.csv")
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd
import plotly.graph_objects as go

from lab.plots.run.confusion import PREFIX

from .figures import DISTRIBUTION, interval_of, run_figure, spec_of
from .record import Record
from .style import with_background
from .table import figure_table

if TYPE_CHECKING:
    from lab.store import StoreReader

FORMATS = ("CSV", "Parquet", "HTML")


def figure_data(source: StoreReader | Record, name: str) -> pd.DataFrame:
    """Return all recorded numbers behind a figure, not only the points that are drawn.

    Args:
        source: Reader of the run, or a Record, which limits the steps.
        name: Name of the figure.

    Returns:
        A frame with a column for the step; for a user's own figure without declared data, the points as drawn.

    Raises:
        FigureError: The figure is unknown; the message lists the known ones.
    """
    record = source if isinstance(source, Record) else Record(source)
    spec, reader, last = spec_of(record, name), record.reader, record.until
    if spec.data is not None:
        return spec.data(record)
    if spec.scalars:
        frame = reader.scalars.read(list(spec.scalars), last=last).reset_index()
        band = interval_of(record, name)
        return frame if band is None else frame.merge(band.reset_index(), how="left", on="step")
    if name == "confusion":
        return reader.scalars.read(record.scalar_names(PREFIX), last=last).reset_index()
    if name == "layers":
        return reader.layers.read(last=last)
    if name == "plane":
        return reader.pairs.latest(last)
    if name.startswith(DISTRIBUTION):
        return _every_value(record, name.removeprefix(DISTRIBUTION))
    return _as_drawn(run_figure(record, name))


def _every_value(record: Record, term: str) -> pd.DataFrame:
    """Return a term of every pair at every stored step: step, pair, the term."""
    return record.reader.pairs.read(last=record.until).reindex(columns=["step", "pair", term])


def _as_drawn(figure: go.Figure) -> pd.DataFrame:
    """Return the points of a figure without the marks of events; see `figure_table`."""
    table = figure_table(figure)
    return table[table["trace"] != "events"]


def figure_file(source: StoreReader | Record, name: str, kind: str, dark: bool = False) -> bytes:
    """Return the data of a figure as CSV or Parquet, or the figure as a self-contained HTML page.

    Args:
        source: Reader of the run, or a Record.
        name: Name of the figure.
        kind: One of FORMATS.
        dark: Use the dark palette.

    Raises:
        ValueError: The kind is unknown.
        FigureError: The figure is unknown.
    """
    return as_file(kind, lambda: figure_data(source, name), lambda: run_figure(source, name, dark), dark)


def as_file(kind: str, data: Callable[[], pd.DataFrame], figure: Callable[[], go.Figure], dark: bool = False) -> bytes:
    """Return a table as CSV or Parquet, or a figure as a self-contained HTML page; only what is needed is computed.

    Args:
        kind: One of FORMATS.
        data: Returns the table.
        figure: Returns the figure.
        dark: Use the dark background.

    Raises:
        ValueError: The kind is unknown.
    """
    if kind == "CSV":
        return data().to_csv(index=False).encode()
    if kind == "Parquet":
        buffer = io.BytesIO()
        data().to_parquet(buffer, index=False)
        return buffer.getvalue()
    if kind == "HTML":
        drawn = go.Figure(figure(), _validate=False)
        return str(with_background(drawn, dark).to_html(include_plotlyjs=True, config={"displaylogo": False})).encode()
    raise ValueError(f"There is no file format {kind!r} for a figure; choose one of {', '.join(FORMATS)}.")
