"""Desktop notifications by the browser, for findings and the end of a run.

They are off until the button is pressed; the browser remembers it. They appear while the page is open, also in a background tab
(which browsers update once a minute). Findings that were there when the page was opened are not announced.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import streamlit as st

from lab.diagnosis.monitor import EVENT
from lab.run.handle import Run
from lab.store import ENDED

LATEST = 20
"""Most events that are sent to the page."""

JAVASCRIPT = """
const KEY = "lab-notifications";
const able = () => "Notification" in window;
const on = () => able() && Notification.permission === "granted" && localStorage.getItem(KEY) === "on";

const REFUSALS = {
  none: "This browser has no notifications.",
  denied: "The browser refuses notifications of this page: allow them in its settings for this address, then reload.",
  default: "Not switched on: the browser's question was closed without an answer. Press again to be asked again.",
};

function draw(button, refused) {
  button.setAttribute("aria-pressed", on());
  button.textContent = on() ? "Notifications are on" : "Notify me";
  button.title = on() ? "Findings and the end of the run pop up on the desktop while this page is open. Press to switch that off."
    : "Let findings and the end of the run pop up on the desktop while this page is open.";
  refused.textContent = REFUSALS[button.answer] ?? "";  // on the page: the title of a button is seen by few
}

export default function ({data, parentElement}) {
  const button = parentElement.querySelector("button"), refused = parentElement.querySelector("[role=status]");
  button.onclick = async () => {
    button.answer = undefined;
    if (on()) localStorage.setItem(KEY, "off");
    else {
      button.answer = able() ? await Notification.requestPermission() : "none";
      if (button.answer === "granted") localStorage.setItem(KEY, "on");
    }
    draw(button, refused);
  };
  const seen = window.labNews ??= {};
  const known = seen[data.run];
  if (known && on()) {
    for (const news of data.news) {
      if (!known.has(news.id)) new Notification(news.title, {body: news.message, tag: news.id});
    }
  }
  seen[data.run] = new Set([...(known ?? []), ...data.news.map((news) => news.id)]);
  draw(button, refused);
}
"""

CSS = """
.lab-notify { font: inherit; font-size: 0.875rem; color: var(--st-text-color); background: transparent; white-space: nowrap;
  border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius, 0.5rem); padding: 0.4rem 0.75rem;
  cursor: pointer; }
.lab-notify:hover, .lab-notify:focus-visible { border-color: var(--st-primary-color); color: var(--st-primary-color); }
.lab-refused { font-size: 0.8rem; color: var(--st-text-color); display: block; max-width: 22rem; }
"""

_mount = st.components.v2.component(
    "lab_notifications",
    html='<button type="button" class="lab-notify">Notify me</button><span role="status" class="lab-refused"></span>',
    css=CSS,
    js=JAVASCRIPT,
    isolate_styles=False,
)


@dataclass(frozen=True)
class News:
    """A notification. id: constant, so that it is shown once."""

    id: str
    title: str
    message: str


def news(run: Run) -> list[News]:
    """Return the notifications of a run, oldest first."""
    notifications = []
    events = run.reader.events.read(EVENT)
    for when, step, detail in list(zip(events["time"], events["step"], events["detail"]))[-LATEST:]:
        if not detail.get("over"):
            notifications.append(News(f"{run.dir.name}-{when}", f"{run.name}, step {step:,}", detail["message"]))
    state = run.state
    if state in ENDED:
        message = {"crashed": "Its process ended without an error message.", "failed": run.error or "It failed."}.get(
            state, f"It has {state}."
        )
        notifications.append(News(f"{run.dir.name}-{state}-{run.step}", f"{run.name} is {state}, step {run.step:,}", message))
    return notifications


def button(run: str, notifications: list[News]) -> None:
    """Draw the switch, whose script also shows the notifications."""
    _mount(key=f"notify-{run}", data={"run": run, "news": [asdict(item) for item in notifications]})
