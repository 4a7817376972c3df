"""Figures of runs: data frame in, Plotly figure out. Dashboard, notebooks and `Run.figure` share them."""

from lab.glossary import GLOSSARY, PAIR_TERMS, Entry, entry
from lab.plots.run.confusion import confusion
from lab.plots.run.curves import curves
from lab.plots.run.distribution import distribution
from lab.plots.run.layer_bars import layer_bars
from lab.plots.run.layers import layers
from lab.plots.run.pair_history import edits_of, history_groups, history_table, pair_history, times_seen
from lab.plots.run.panel import panel
from lab.plots.run.plane import plane, plane_ranges
from lab.plots.run.tokens import KINDS, Paint, paint, paintable
from lab.plots.run.virtual_step import virtual_step

from .data import FORMATS, as_file, figure_data, figure_file
from .figures import DISTRIBUTION, FIGURES, SCALAR, FigureSpec, run_figure, run_parts
from .record import Record
from .style import HEIGHT, as_dicts
from .table import figure_table

__all__ = [
    "DISTRIBUTION",
    "FIGURES",
    "FORMATS",
    "GLOSSARY",
    "HEIGHT",
    "KINDS",
    "PAIR_TERMS",
    "SCALAR",
    "Entry",
    "FigureSpec",
    "Paint",
    "Record",
    "as_dicts",
    "as_file",
    "confusion",
    "curves",
    "distribution",
    "edits_of",
    "entry",
    "figure_data",
    "figure_file",
    "figure_table",
    "history_groups",
    "history_table",
    "layer_bars",
    "layers",
    "paint",
    "paintable",
    "pair_history",
    "panel",
    "plane",
    "plane_ranges",
    "run_figure",
    "run_parts",
    "times_seen",
    "virtual_step",
]
