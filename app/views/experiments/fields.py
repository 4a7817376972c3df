"""Fields of the form: texts that hold one value or several, each with the sentence that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.text.labels import field_label
from app.text.plain import plain
from app.views.experiments.draft import FIRST_SETTINGS
from app.widgets.forms import explain, title
from lab.experiments import write_values
from lab.experiments.metrics import METRICS
from lab.objectives import OBJECTIVES
from lab.run.config import TrainConfig

PREFIX = "experiment."
"""Beginning of the keys of the form's widgets in the session."""
TURN = f"{PREFIX}turn"
"""In the session: how often the form was filled anew; part of the keys, so that fields begin with what they were filled with."""
SEVERAL = "Several values are separated by commas, and each is run with all others; a value with a comma stands in quotes."

MEASURES = tuple(name for name in METRICS if name != "seconds")
"""Measures that can be compared."""
PLACES = {
    "end": "after training",
    "kl": "at equal KL",
    "accuracy": "at equal held-out accuracy",
    "margin": "at equal held-out margin",
    "loss": "at equal held-out loss",
}
"""Where variants can be compared, in words."""


def key(name: str) -> str:
    """Return the key of a field's widget in the session."""
    return f"{PREFIX}{st.session_state.get(TURN, 0)}.{name}"


def text_field(
    label: str, name: str, value: str, *, placeholder: str = "", help: str = "", check: Callable[[str], str | None] | None = None
) -> str:
    """Draw a field for a text and, below it, what is wrong with the text; return the text.

    Args:
        label: Label of the field.
        name: Name of the field in the form.
        value: The text that it begins with.
        placeholder: Shown while the field is empty.
        help: Explanation, as Markdown.
        check: Returns a sentence about a text that is not possible, else None.
    """
    text = st.text_input(
        label, value, key=key(name), placeholder=placeholder or None, help=help or None, persist_state="session"
    ).strip()
    if check and text and (problem := check(text)):
        st.markdown(f":red[:small[{plain(problem)}]]")
    return text


def setting_field(name: str, value: str, check: Callable[[str], str | None], *, place: str = "", placeholder: str = "") -> str:
    """Draw the field of a setting of a run; return its text.

    Args:
        name: Name of the setting.
        value: The text that it begins with.
        check: As for `text_field`.
        place: Beginning of the field's name, where the setting belongs to one objective.
        placeholder: Shown while the field is empty; its default if not given.
    """
    field = TrainConfig.model_fields[name]
    default = "not set" if field.default in (None, "") else write_values(field.default)
    return text_field(
        title(name, field),
        f"{place}{name}",
        value,
        placeholder=placeholder or default,
        help=f"{explain(name, field)} {SEVERAL}",
        check=check,
    )


def parameter_field(objective: str, name: str, value: str, check: Callable[[str], str | None], *, place: str) -> str:
    """Draw the field of a parameter of an objective; return its text. Arguments as in `setting_field`."""
    field = OBJECTIVES[objective].model_fields[name]
    return text_field(
        title(name, field), f"{place}{objective}.{name}", value,
        placeholder=write_values(field.default), help=f"{explain(name, field)} {SEVERAL}", check=check,
    )  # fmt: skip


def more_settings() -> list[str]:
    """Return the settings that can be added to the form, by their labels."""
    fixed = ("objective", "seed", "name", *FIRST_SETTINGS)
    return sorted((name for name in TrainConfig.model_fields if name not in fixed), key=field_label)
