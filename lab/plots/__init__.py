"""Pictures of a run: data frame in, Plotly figure out. The dashboard and the notebooks draw the same ones."""

from .confusion import confusion
from .curves import curves
from .distribution import distribution
from .figures import DISTRIBUTION, FIGURES, FigureSpec, run_figure
from .glossary import GLOSSARY, PAIR_TERMS, Entry, entry
from .layers import layers
from .panel import panel
from .record import Record
from .style import HEIGHT
from .table import figure_table

__all__ = [
    "DISTRIBUTION",
    "FIGURES",
    "GLOSSARY",
    "HEIGHT",
    "PAIR_TERMS",
    "Entry",
    "FigureSpec",
    "Record",
    "confusion",
    "curves",
    "distribution",
    "entry",
    "figure_table",
    "layers",
    "panel",
    "run_figure",
]
