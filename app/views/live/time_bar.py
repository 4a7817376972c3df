"""The time bar: a slider over the steps, play, step back and forward, and return to the latest step.

It plays in the browser: it requests the next step when the page has drawn the last one, so that nothing piles up, and skips as many
steps as the chosen speed needs.
"""

from __future__ import annotations

import streamlit as st

from app.state.moment import go_to, moment
from lab.plots import Record

SPEEDS = {"step by step": 0, "whole run in 60 s": 60, "whole run in 20 s": 20, "whole run in 8 s": 8}
"""Playing speeds: seconds for the whole run; 0 for every step."""

HTML = f"""
<div class="lab-travel" role="group" aria-label="Time travel">
  <button type="button" data-do="back" title="Step back (key ,)" aria-label="Step back">
    <svg viewBox="0 0 16 16"><path d="M3 2h2v12H3zM14 2v12L6 8z"/></svg></button>
  <button type="button" data-do="play" title="Play or hold (key p)" aria-label="Play">
    <svg viewBox="0 0 16 16"><path class="go" d="M4 2v12l10-6z"/><path class="hold" d="M3 2h4v12H3zM9 2h4v12H9z"/></svg></button>
  <button type="button" data-do="forward" title="Step forward (key .)" aria-label="Step forward">
    <svg viewBox="0 0 16 16"><path d="M11 2h2v12h-2zM2 2v12l8-6z"/></svg></button>
  <input type="range" min="0" step="1" aria-label="Step that is shown">
  <output></output>
  <select aria-label="Speed" title="Playback speed">
    {"".join(f'<option value="{seconds}">{text}</option>' for text, seconds in SPEEDS.items())}
  </select>
  <button type="button" data-do="latest" title="Back to the latest step (key l)">Latest</button>
</div>
"""

CSS = """
.lab-travel {display: flex; align-items: center; gap: 6px; padding: 3px 8px; border: 1px solid var(--st-border-color);
  border-radius: var(--st-base-radius); font-size: 0.85rem; color: var(--st-text-color);}
.lab-travel.past {border-color: var(--st-orange-color); background: var(--st-orange-background-color);}
.lab-travel input {flex: 1; min-width: 80px; accent-color: var(--st-primary-color);}
.lab-travel button, .lab-travel select {font: inherit; color: inherit; background: var(--st-background-color); cursor: pointer;
  border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius); height: 28px; padding: 0 8px;}
.lab-travel button:disabled {opacity: 0.45; cursor: default;}
.lab-travel svg {width: 12px; height: 12px; fill: currentColor; vertical-align: -1px;}
.lab-travel .hold, .lab-travel.playing .go {display: none;}
.lab-travel.playing .hold {display: inline;}
.lab-travel output {white-space: nowrap; font-variant-numeric: tabular-nums;}
"""

JAVASCRIPT = """
const LEAST = 150;  // ms between two drawings while time is played
const number = (n) => n.toLocaleString("en-US");

export default function ({data, parentElement, setTriggerValue}) {
  const bar = parentElement.querySelector(".lab-travel");
  const [slider, output, speed] = ["input", "output", "select"].map((tag) => bar.querySelector(tag));
  const my = bar.my ??= {playing: false, pending: undefined, next: undefined, dragging: false, at: 0, ticked: 0};
  my.send = setTriggerValue;
  Object.assign(my, {step: data.step, last: data.last});

  const show = (step) => {
    const past = step !== null;
    bar.classList.toggle("past", past);
    bar.classList.toggle("playing", my.playing);
    slider.max = my.last;
    if (!my.dragging) slider.value = past ? step : my.last;
    const of = number(my.last);
    output.textContent = past ? `the past: step ${number(Math.min(step, my.last))} of ${of}` : `latest: step ${of}`;
    bar.querySelector("[data-do=play]").ariaLabel = my.playing ? "Hold" : "Play";
    bar.querySelector("[data-do=latest]").disabled = !past;
    bar.querySelector("[data-do=forward]").disabled = !past;
    bar.querySelector("[data-do=back]").disabled = past && step <= 0;
  };

  // One request at a time; of later ones only the last is kept.
  my.request ??= (step, passing) => {
    if (my.pending !== undefined) { my.next = [step, passing]; return; }
    my.pending = [step]; my.at = performance.now();
    my.send("wanted", {step, passing});
  };
  my.tick ??= () => {
    if (!my.playing || my.pending !== undefined) return;
    const seconds = Number(speed.value);
    const passed = Math.min((performance.now() - my.ticked) / 1000, 1);
    my.ticked = performance.now();
    const stride = seconds ? Math.max(1, Math.round(my.last * passed / seconds)) : 1;
    const step = (my.step ?? 0) + stride;
    my.playing = step < my.last;
    my.request(my.playing ? step : null, my.playing);
  };
  my.do ??= (what) => {
    const here = my.step ?? my.last;
    if (what === "play") {
      my.playing = !my.playing;
      my.ticked = performance.now();
      if (!my.playing) my.request(my.step, false);
      else if (my.step === null) my.request(0, true);
      else my.tick();
      return;
    }
    my.playing = false;
    if (what === "back") my.request(Math.max(0, Math.min(here, my.last) - 1), false);
    if (what === "forward" && my.step !== null) my.request(here + 1 >= my.last ? null : here + 1, false);
    if (what === "latest") my.request(null, false);
  };
  if (!my.listening) {
    my.listening = true;
    bar.addEventListener("click", (event) => {
      const what = event.target.closest("button")?.dataset.do;
      if (what) { my.do(what); bar.classList.toggle("playing", my.playing); }
    });
    slider.addEventListener("input", () => { my.dragging = true; my.playing = false; my.request(Number(slider.value), true); });
    slider.addEventListener("change", () => {
      my.dragging = false;
      my.request(Number(slider.value) >= my.last ? null : Number(slider.value), false);
    });
  }
  my.key ??= data.key;
  if (data.key !== my.key) {  // a key that was pressed on the page
    my.key = data.key;
    if (data.does) my.do(data.does);
  }
  if (my.pending !== undefined && (data.step === my.pending[0] || performance.now() - my.at > 5000)) {  // the page has drawn it
    my.pending = undefined;
    if (my.next !== undefined) { const next = my.next; my.next = undefined; my.request(...next); }
    else if (my.playing) setTimeout(my.tick, Math.max(0, LEAST - (performance.now() - my.at)));
  }
  show(data.step);
}
"""

_mount = st.components.v2.component("lab_travel", html=HTML, css=CSS, js=JAVASCRIPT, isolate_styles=False)

KEY = "travel"
PRESSED = "travel-pressed"


def bar(run: str, record: Record) -> None:
    """Draw the bar for a run (its folder's name). Call it last: its arrival tells the browser that all is drawn."""
    number, does = st.session_state.get(PRESSED, (0, ""))
    data = {"step": moment(run), "last": record.latest, "key": number, "does": does}
    _mount(key=f"{KEY}-{run}", data=data, on_wanted_change=lambda: _wanted(run))


def _wanted(run: str) -> None:
    wanted = st.session_state[f"{KEY}-{run}"]["wanted"]
    if wanted is not None:
        step = wanted["step"]
        go_to(run, None if step is None else int(step), passing=bool(wanted["passing"]))


def press(what: str) -> None:
    """Press a button of the bar at its next drawing: "back", "play", "forward" or "latest"."""
    number, _ = st.session_state.get(PRESSED, (0, ""))
    st.session_state[PRESSED] = (number + 1, what)
