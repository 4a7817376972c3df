"""Pictures of a run: data frame in, Plotly figure out. The dashboard and the notebooks draw the same ones."""

from .confusion import confusion
from .curves import curves
from .data import FORMATS, as_file, figure_data, figure_file
from .distribution import distribution
from .figures import DISTRIBUTION, FIGURES, SCALAR, FigureSpec, run_figure, run_parts
from .glossary import GLOSSARY, PAIR_TERMS, Entry, entry
from .layers import layers
from .pair_history import history_groups, history_table, in_words, pair_history, times_seen
from .panel import panel
from .plane import plane, plane_ranges
from .record import Record
from .style import HEIGHT, plainly
from .table import figure_table
from .tokens import KINDS, Kind, Paint, paint, paintable
from .virtual_step import virtual_step

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
    "Kind",
    "Paint",
    "Record",
    "as_file",
    "confusion",
    "curves",
    "distribution",
    "entry",
    "figure_data",
    "figure_file",
    "figure_table",
    "history_groups",
    "history_table",
    "in_words",
    "layers",
    "paint",
    "paintable",
    "pair_history",
    "panel",
    "plainly",
    "plane",
    "plane_ranges",
    "run_figure",
    "run_parts",
    "times_seen",
    "virtual_step",
]
