"""Read a run's recorded data: its manifest, metrics, events, figures and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import extensions
from lab.errors import did_you_mean
from lab.glossary import GLOSSARY, HELD_OUT
from lab.store import (
    EVENT_KINDS,
    RunError,
    StoreReader,
    as_step,
    best_checkpoint,
    export,
    list_checkpoints,
    read_manifest,
    write_page,
    write_table,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from lab.diagnosis import Diagnosis

    from .config import TrainConfig
    from .preflight_report import Preflight


class RunData:
    """Read what a run has recorded. Safe to use while it trains, from any thread or process; base class of `lab.Run`.

    Args:
        folder: The run's folder.
        check: False opens nothing before it is needed, for a folder that is known to hold a run.

    Raises:
        RunError: If the folder holds no run.
    """

    def __init__(self, folder: Path | str, *, check: bool = True) -> None:
        self.dir = Path(folder)
        if check:
            read_manifest(self.dir)
            self.reader  # noqa: B018 - fails here, not later

    @cached_property
    def reader(self) -> StoreReader:
        """Reader of the run's store, opened at its first use."""
        return StoreReader(self.dir)

    @property
    def folder(self) -> Path:
        """The run's folder, as `lab.open_run` accepts it."""
        return self.dir

    @property
    def manifest(self) -> dict[str, Any]:
        """Content of `run.json`, written when the run was made: settings, pair set and its version, time of creation."""
        return read_manifest(self.dir)

    @property
    def config(self) -> TrainConfig:
        """The settings that the run was made with.

        Raises ConfigError if they cannot be read, for example because a custom objective is missing.
        """
        from .config import TrainConfig  # imports pydantic, which reading metrics does not need

        extensions.load()
        return TrainConfig.parse(**self.manifest["config"])

    def scalars(
        self, names: str | Sequence[str] | None = None, *, first: int = 0, last: int | None = None, points: int | None = None
    ) -> pd.DataFrame:
        """Return scalars: index `step`, one column per name, NaN where a scalar has no value.

        Args:
            names: Names of scalars, or one name; None for all.
            first: First step.
            last: Last step; None for the latest.
            points: Thin each series to about this many points, keeping the extremes of every interval; None keeps all.

        Raises:
            RunError: For a name that neither this run nor the glossary has.
        """
        wanted = [names] if isinstance(names, str) else names
        known = self.reader.scalars.names()
        for name in wanted or ():
            if known and name not in known and name.removeprefix(HELD_OUT) not in GLOSSARY:
                raise RunError(
                    f"The run {self.dir.name} has no scalar {name!r}; run.scalars() returns all.{did_you_mean(name, known)}"
                )
        return self.reader.scalars.read(wanted, first=as_step(first), last=_step(last), points=points)

    def pairs(self, step: int | None = None) -> pd.DataFrame:
        """Return each pair's terms when it was last in a batch, at or before `step`: one row per pair, one column per term."""
        return self.reader.pairs.latest(_step(step))

    def held_out(self, step: int | None = None) -> pd.DataFrame:
        """Return the terms of the held-out pairs at the latest evaluation, at or before `step`, in the columns of `pairs`."""
        return self.reader.held_out.latest(_step(step))

    def layers(self, *, first: int = 0, last: int | None = None, points: int | None = None) -> pd.DataFrame:
        """Return the gradient flow by layer: step, layer, norm_chosen, norm_rejected, cosine, update_ratio."""
        return self.reader.layers.read(first=as_step(first), last=_step(last), points=points)

    def panel(self, step: int | None = None) -> pd.DataFrame:
        """Return the log-probs of chosen, rejected and greedy answers of a few held-out pairs over time, up to `step`."""
        return self.reader.panel.read(last=_step(step))

    def events(self, *kinds: str) -> pd.DataFrame:
        """Return the run's events of some kinds (all if none is given), oldest first: number, time, step, kind, detail.

        Raises RunError for a kind that does not exist; the message lists those that do.
        """
        for kind in kinds:
            if kind not in EVENT_KINDS:
                suggestion = did_you_mean(kind, EVENT_KINDS)
                raise RunError(f"There are no events of the kind {kind!r}; choose from {', '.join(EVENT_KINDS)}.{suggestion}")
        return self.reader.events.read(*kinds)

    def diagnose(self, step: int | None = None) -> list[Diagnosis]:
        """Return the training diagnostics with explanations, the most severe first, now or as of a step.

        The thresholds are those stored with the run, else the defaults; see `lab.diagnosis`.
        """
        from lab.diagnosis import diagnose, read_thresholds

        extensions.load()
        return diagnose(self.reader, step=_step(step), thresholds=read_thresholds(self.dir))

    def preflight(self, *, after: int = 0) -> Preflight | None:
        """Return the report from before the first step, or before the run was resumed: lengths, truncation, memory, time.

        Args:
            after: Ignore reports up to the event of this number.

        Returns:
            The latest report, or None if there is none yet.
        """
        from .preflight_report import Preflight

        reports = self.reader.events.read("preflight", after=after)["detail"]
        return None if reports.empty else Preflight.model_validate(reports.iloc[-1])

    def figure(self, name: str, *, dark: bool = False) -> go.Figure:
        """Return a Plotly figure of the run; `lab.plots.FIGURES` lists the names. Raises FigureError for an unknown name."""
        from lab.plots import run_figure
        from lab.plots.style import with_background

        return with_background(run_figure(self.reader, name, dark), dark)

    def export(self, what: str, path: Path | str, *, first: int = 0, last: int | None = None) -> Path:
        """Write numbers of the run to a new .csv or .parquet file, or a figure to a new .html file.

        Args:
            what: scalars, pairs (each pair's latest terms), terms (at every step that is kept), held_out, panel, layers, events,
                tokens, or a figure, for example `figure:margins`: its numbers without thinning, or the figure as a page.
            path: The new file.
            first: First step.
            last: Last step; None for the latest. A figure is drawn as of this step.

        Returns:
            The path of the file.

        Raises:
            RunError: For an unknown table, or a file that exists or cannot be written.
            FigureError: For an unknown figure.
        """
        name = str(what).removeprefix("figure:")
        if name == what:
            return export(self.reader, what, path, first=as_step(first), last=_step(last))
        from lab.plots import Record, figure_data, figure_file

        record = Record(self.reader, _step(last))
        if Path(path).suffix.lower() == ".html":
            return write_page(figure_file(record, name, "HTML"), path)
        table = figure_data(record, name)
        table = table[table["step"] >= first] if "step" in table else table
        return write_table(list(table.columns), [table], path)

    def checkpoints(self) -> list[Path]:
        """Return the folders of the checkpoints that are kept, oldest first."""
        return list_checkpoints(self.dir)

    def best_checkpoint(self) -> Path | None:
        """Return the checkpoint with the best evaluation by the setting `keep_best`, or None if none was evaluated."""
        return best_checkpoint(self.dir, self.manifest["config"].get("keep_best", "auto"))


def _step(step: int | None) -> int | None:
    """Return a step as `as_step` does, and None for the latest as None."""
    return None if step is None else as_step(step)
