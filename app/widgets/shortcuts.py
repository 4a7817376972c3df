"""Keyboard shortcuts of a page. They act unless a text field, or a control that uses the key, has the focus.

LIVE = {",": Key("step back", back), ".": Key("step forward", forward)}
bind(LIVE, key="live-keys")
help_button(LIVE)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import streamlit as st

JAVASCRIPT = """
const BUSY = "input, textarea, select, [contenteditable], [role=combobox], [role=listbox], [role=dialog]";
const SLIDER = "input[type=range], [role=slider], input[type=checkbox], input[type=radio]";
const OWN = ["Arrow", "Home", "End", "Page", "Enter", " "];  // what such a control does by itself

export default function ({data, parentElement, setTriggerValue}) {
  const press = (event) => {
    // With Caps Lock, p arrives as P; the Shift state decides.
    const cased = event.shiftKey ? event.key.toUpperCase() : event.key.toLowerCase();
    const key = event.key.length === 1 ? cased : event.key;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !data.keys.includes(key)) return;
    if (document.querySelector("[role=dialog]")) return;
    // A control that no text is typed into keeps its own keys, and leaves the others to the page.
    const slider = event.target.closest?.(SLIDER);
    if (slider ? OWN.some((own) => key.startsWith(own)) : event.target.closest?.(BUSY)) return;
    event.preventDefault();
    if (key === "?") document.querySelector(".st-key-lab-keys-list button")?.click();
    else setTriggerValue("pressed", key);
  };
  if (parentElement.press) document.removeEventListener("keydown", parentElement.press);
  parentElement.press = press;
  document.addEventListener("keydown", press);
  return () => document.removeEventListener("keydown", parentElement.press);
}
"""

FOCUS = """
export default function ({data, parentElement}) {
  if (parentElement.focused === data.turn) return;
  parentElement.focused = data.turn;
  const last = Date.now() + 2000;  // the field may be drawn after this script
  const focus = () => {
    const field = document.querySelector(`.st-key-${data.key.replace(/[^\\w-]/g, "-")} :is(textarea, input)`);
    if (field) { field.focus(); field.setSelectionRange?.(field.value.length, field.value.length); }
    else if (Date.now() < last) setTimeout(focus, 30);
  };
  focus();
}
"""

_mount = st.components.v2.component("lab_keys", html="<span></span>", js=JAVASCRIPT, isolate_styles=False)
_mount_focus = st.components.v2.component("lab_focus", html="<span></span>", js=FOCUS, isolate_styles=False)


LIST = "?"
"""The key that opens the list of keys."""


@dataclass(frozen=True)
class Key:
    """A shortcut: its description and the function it calls. A capital letter is that letter with Shift."""

    description: str
    act: Callable[[], None]


def bind(keys: Mapping[str, Key], *, key: str) -> None:
    """Call the function of a pressed key ("j", "P", "ArrowLeft", as browsers name them) before the page is drawn again.

    Within a fragment only the fragment is drawn again. Mount it once a page.
    """
    _mount(key=key, data={"keys": [*keys, LIST]}, on_pressed_change=lambda: _pressed(keys, key))


def _pressed(keys: Mapping[str, Key], key: str) -> None:
    pressed = st.session_state[key]["pressed"]
    if pressed in keys:
        keys[pressed].act()


def help_button(keys: Mapping[str, Key]) -> None:
    """Draw a small "?" that lists the keys; with `bind` the key "?" opens it."""
    with st.container(key="lab-keys-list", width="content"), st.popover("?", help="Keys of this page (key ?)"):
        st.markdown(f"`{LIST}` this list")
        for name, shortcut in keys.items():
            combination = f"Shift + {name}" if len(name) == 1 and name.isalpha() and name.isupper() else name
            st.markdown(f"`{combination}` {shortcut.description}")


def focus(key: str, turn: str) -> None:
    """Put the keyboard's focus into the field of a container or widget with this key; again only for another `turn`."""
    _mount_focus(key="lab-focus", data={"key": key, "turn": turn})
