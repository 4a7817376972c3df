"""The part of the Live page that is redrawn while a run trains: head, findings, time bar and the open tab."""

from __future__ import annotations

import statistics
import time
from collections import deque

import streamlit as st

from app.state import pacing
from app.state.access import may_edit
from app.state.moment import moment
from app.state.navigation import open_pair
from app.text.plain import plain
from app.views.live import controls, findings, save_figure, time_bar
from app.views.live.charts import OPEN_PAIR
from app.views.live.heading import summary
from app.views.live.tabs import TABS
from app.widgets import shortcuts
from app.widgets.save_dialog import rerun_if_asked
from lab.plots import Record
from lab.run.handle import Run
from lab.store import ENDED, RunError
from lab.training.lifecycle import trained_here

INTERVALS, COSTS = "drawing-intervals", "drawing-costs"
"""In the session, by run: seconds between two drawings if not `pacing.INTERVAL`; processor seconds of the latest drawings."""


def watch(run: Run, state: str) -> None:
    """Draw the run, every second while it trains, less often if that would delay its training (see `pacing`)."""
    st.fragment(_keep_pace, run_every=None if state in ENDED else _interval(run))(run, state)


def _interval(run: Run) -> float:
    return float(st.session_state.get(INTERVALS, {}).get(run.dir.name, pacing.shortest_interval()))


def _keep_pace(run: Run, drawn_state: str) -> None:
    """Draw, and adapt the interval if the drawings cost more, or much less, than `pacing.SHARE`."""
    began = time.thread_time()
    _draw(run, drawn_state)
    if run.dir.resolve() not in trained_here():
        return
    recent = st.session_state.setdefault(COSTS, {}).setdefault(run.dir.name, deque(maxlen=5))
    recent.append(time.thread_time() - began)
    wanted = min(max(statistics.median(recent) / pacing.SHARE, pacing.shortest_interval()), pacing.LONGEST)
    if len(recent) == recent.maxlen and not 0.6 < wanted / _interval(run) < 1.2:
        st.session_state.setdefault(INTERVALS, {})[run.dir.name] = wanted
        recent.clear()
        st.rerun(scope="app")


def _draw(run: Run, drawn_state: str) -> None:
    state = run.state
    rerun_if_asked()
    if state != drawn_state:
        st.rerun(scope="app")  # the buttons outside this part must follow
    if pair := st.session_state.pop(OPEN_PAIR, None):
        open_pair(run.dir.name, pair, moment(run.dir.name))
    record = _record(run)
    record.refresh(moment(run.dir.name))
    status = run.status
    with st.container():
        summary(run, state, status, record)
    if state == "queued" and not status.get("step"):
        for message in _warned(record):
            st.warning(plain(message), icon=":material/warning:")
        return
    bar = st.container()
    with st.container():  # always the same place: a figure that moves in the page is recreated and loses its zoom
        findings.section(run, moment(run.dir.name), _warned(record))
    tabs = st.tabs(list(TABS), key="live-tab", on_change="rerun")
    for tab, section in zip(tabs, TABS.values()):
        if tab.open:
            with tab:
                section(run, record)
    with bar:
        _moves(run, record)


def _moves(run: Run, record: Record) -> None:
    """Draw the time bar and register the keys. The bar is drawn last: its arrival tells the browser that the step is drawn."""
    live = {
        ",": shortcuts.Key("one step back", lambda: time_bar.press("back")),
        ".": shortcuts.Key("one step forward", lambda: time_bar.press("forward")),
        "p": shortcuts.Key("play, or hold", lambda: time_bar.press("play")),
        "l": shortcuts.Key("back to the latest step", lambda: time_bar.press("latest")),
        "s": shortcuts.Key("save a chart: its numbers or its picture", lambda: save_figure.ask_for("loss")),
    }
    if may_edit():
        live["P"] = shortcuts.Key("pause the training, or resume a paused run", lambda: _pause(run))
    with st.container(horizontal=True, vertical_alignment="center"):
        time_bar.bar(run.dir.name, record)
        shortcuts.help_button(live)
    shortcuts.bind(live, key="live-keys")


def _pause(run: Run) -> None:
    """Pause or resume the run by its key, as its button does."""
    try:
        st.toast(controls.pause_or_resume(run))
    except RunError as error:
        st.toast(plain(str(error)))


def _record(run: Run) -> Record:
    """Return the record of the run that the session keeps."""
    kept = st.session_state.get("record")
    if not isinstance(kept, Record) or kept.reader.folder != run.dir:
        kept = st.session_state["record"] = Record(run.reader, moment(run.dir.name))
    return kept


def _warned(record: Record) -> dict[str, int]:
    """Map each warning of the run to its latest step, without those that the diagnosis repeats."""
    events = record.events()
    warned = events[events["kind"].isin(["warning", "refused"])]
    return {detail["message"]: step for step, detail in zip(warned["step"], warned["detail"]) if not detail.get("diagnosed")}
