"""The numbers behind a figure, whole where the figure is thinned, and the figure as a file.

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
    """Every recorded number that the figure `name` stands for, up to the record's moment; one column names the step.

    Of a figure of one's own whose data the library does not know: the points as they are drawn.
    Raises ValueError naming the figures there are.
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
    """A term of every pair at every step that is kept: step, pair, the term."""
    return record.reader.pairs.read(last=record.until).reindex(columns=["step", "pair", term])


def _as_drawn(figure: go.Figure) -> pd.DataFrame:
    """The points of a figure, without the marks of events: the columns of `figure_table`."""
    table = figure_table(figure)
    return table[table["trace"] != "events"]


def figure_file(source: StoreReader | Record, name: str, kind: str, dark: bool = False) -> bytes:
    """A figure's data as CSV or Parquet, or the figure as a page of HTML that needs nothing else (Plotly's script is in it).

    kind: one of FORMATS.   Raises ValueError for another kind or an unknown figure.
    """
    return as_file(kind, lambda: figure_data(source, name), lambda: run_figure(source, name, dark), dark)


def as_file(kind: str, data: Callable[[], pd.DataFrame], figure: Callable[[], go.Figure], dark: bool = False) -> bytes:
    """The same of any figure: what `data` reads as a table, or what `figure` draws as a page. Raises ValueError likewise."""
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
