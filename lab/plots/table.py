"""Convert the points of a figure to a table."""

from __future__ import annotations

from html import unescape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

COLUMNS = ["trace", "x", "y", "z", "text"]


def figure_table(figure: go.Figure) -> pd.DataFrame:
    """Return one row per point, or per cell of a heat map.

    Returns:
        A frame with trace (name in the legend, otherwise its number), x and y (as text if not all are numbers), z (the value behind
        the colour) and text; missing parts are empty.
    """
    parts = []
    for number, trace in enumerate(figure.data):
        content = trace.to_plotly_json()
        x, y, z, text = (None if content.get(key) is None else np.asarray(content[key]) for key in ("x", "y", "z", "text"))
        if z is not None and z.ndim == 2:
            rows, columns = z.shape
            x = np.tile(np.arange(columns) if x is None else x, rows)
            y = np.repeat(np.arange(rows) if y is None else y, columns)
            z = z.ravel()
            text = text.ravel() if text is not None and text.size == z.size else None
        lengths = {len(values) for values in (x, y, z) if values is not None and values.ndim == 1}
        if len(lengths) != 1:  # nothing to draw, or no points
            continue
        (length,) = lengths
        shown = {"x": x, "y": y, "z": z, "text": text}
        columns_ = {
            key: values for key, values in shown.items() if values is not None and values.ndim == 1 and len(values) == length
        }
        parts.append(pd.DataFrame(columns_).assign(trace=unescape(str(content.get("name") or number))))
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    for name in ("x", "y", "text"):
        if table[name].dtype.kind not in "fi":
            table[name] = [None if value is None or value != value else str(value) for value in table[name]]
    return table
