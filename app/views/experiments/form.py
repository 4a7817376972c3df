"""The form that declares an experiment: its fields, made from the library's declarations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import streamlit as st

from app.pages import EXPERIMENTS
from app.state import pair_sets
from app.state.access import WHY, may_edit
from app.state.experiments import opened
from app.state.navigation import leave_for
from app.text.labels import field_label, objective_label
from app.text.plain import plain
from app.views.experiments import starting
from app.views.experiments.draft import ALWAYS, LABEL, OF_AN_OBJECTIVE, Draft, Entry, draft_of, parameters_of, problems
from app.views.experiments.fields import (
    MEASURES,
    PLACES,
    PREFIX,
    TURN,
    key,
    more_settings,
    parameter_field,
    setting_field,
    text_field,
)
from app.widgets.forms import explain, title
from lab.experiments import parse_declaration, parse_values, write_values
from lab.experiments.metrics import metric_of
from lab.objectives import OBJECTIVES
from lab.run.config import ConfigError, TrainConfig
from lab.store import RunError

FILLED, SOURCE, REFUSED = f"{PREFIX}filled", f"{PREFIX}source", f"{PREFIX}refused"
"""In the session: the draft that the fields began with, the experiment it came from, and why a file was refused."""
LINES, NUMBER = f"{PREFIX}lines", f"{PREFIX}number"
"""In the session: numbers of the objectives' lines, and the number of the next line."""
FIRST = ("sgdpo", "alpha_dpo", "spo", "dpo", "simpo")
PER_ROW = 4
EXAMPLE = """name: rates
objectives: [dpo, {name: sgdpo, r1: [0.6, 0.9]}]
learning_rate: [1e-4, 2e-4]
seeds: 8
steps: 200"""


Check = Callable[[str], str | None]
"""Returns a sentence about a field's text that is not possible, else None."""
Checks = Callable[[str, Callable[[str], Draft]], Check]
"""Returns the check of a field: by its place in `problems`, and the draft that holds nothing but its text."""


def page() -> None:
    """Draw the whole form; the address may name an experiment whose declaration fills it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        source = st.query_params.get("from")
        st.title("New experiment" if source is None else "Change an experiment", anchor=False, width="content")
        st.space("stretch")
        if st.button("All experiments", icon=f":material/{EXPERIMENTS.icon}:", type="tertiary"):
            leave_for(EXPERIMENTS, {})
        if st.button("Reset to defaults", icon=":material/restart_alt:", help="Forget everything that was entered in this form."):
            fill(Draft(), None)
            leave_for(EXPERIMENTS, {"new": "yes"})
    if not may_edit():
        st.info(WHY)
        return
    starting.follow()
    _fill_from(source)
    left, right = st.columns([7, 4], gap="large")
    with left:
        _file()
        draft = _fields(st.session_state[FILLED], source)
    with right, st.container(border=True):
        starting.panel(draft, source)


def fill(draft: Draft, source: str | None) -> None:
    """Fill all fields with a draft. source: the existing experiment that it declares anew, or None."""
    st.session_state[TURN] = st.session_state.get(TURN, 0) + 1
    st.session_state[FILLED], st.session_state[SOURCE] = draft, source
    st.session_state[LINES] = list(range(len(draft.entries)))
    st.session_state[NUMBER] = len(draft.entries)
    st.session_state.pop(REFUSED, None)


def _fill_from(source: str | None) -> None:
    """Fill the form with the experiment in the address, or with the defaults, unless that was done before."""
    if FILLED in st.session_state and st.session_state.get(SOURCE) == source:
        return
    if source is None:
        fill(Draft(), None)
        return
    try:
        fill(draft_of(source, opened(source).declaration), source)
    except (RunError, OSError, ValueError) as error:
        st.error(plain(error))
        st.stop()


def _file() -> None:
    """Draw the upload of a YAML file, and the field to paste one."""
    with st.expander("Fill in from a YAML file", icon=":material/upload_file:"):
        st.file_uploader(
            "The file of an experiment, as `python -m lab sweep` takes it",
            type=["yaml", "yml", "json"],
            key=f"{PREFIX}file",
            on_change=_take_file,
            max_upload_size=1,
        )
        st.text_area("Or its content", key=f"{PREFIX}pasted", placeholder=EXAMPLE, height=150)
        st.button("Fill in", on_click=_take_text, help="Replaces what the form holds. Nothing is started.")
        if refused := st.session_state.get(REFUSED):
            st.error(plain(refused))


def _take_file() -> None:
    file = st.session_state[f"{PREFIX}file"]
    if file is not None:
        _take(file.getvalue().decode("utf-8", "replace"), file.name.rpartition(".")[0], file.name)


def _take_text() -> None:
    _take(st.session_state.get(f"{PREFIX}pasted", ""), "pasted", "in the field")


def _take(text: str, name: str, source: str) -> None:
    """Fill the form with the declaration in a text, or remember why that is not possible."""
    try:
        known, declaration = parse_declaration(text, name, source)
        fill(draft_of(known, declaration), st.session_state.get(SOURCE))
    except ConfigError as error:
        st.session_state[REFUSED] = str(error)


def _fields(begun: Draft, source: str | None) -> Draft:
    """Draw all fields; return what they hold. begun: what they began with."""

    def check(place: str, part: Callable[[str], Draft]) -> Check:
        return lambda text: problems(part(text)).get(place)

    st.subheader("Objectives", anchor=False)
    entries = _objectives(begun, check)
    st.subheader("Settings", anchor=False)
    st.caption(
        "Values of fields that hold several are combined. Each combination is a variant, and each variant is run with every seed."
    )
    settings = _settings(begun, check)
    seeds_of = partial(replace, Draft())
    one, other = st.columns(2)
    with one:
        seeds = text_field(
            "Seeds", "seeds", begun.seeds, placeholder="5",
            help="Their number (8: seeds 0 to 7), or the seeds themselves: 0, 1, 2. Variants are compared seed by seed, since runs "
            "with the same seed see the same batches.",
            check=check("seeds", lambda text: seeds_of(seeds=text)),
        )  # fmt: skip
    with other:
        with_seed = text_field(
            "With the seed", "with_seed", begun.with_seed, placeholder="model: [base-0, base-1]",
            help="`with_seed`: settings that go with the seed instead of being crossed with it: seed s takes value number s, "
            "beginning anew after the last. Leave such a setting empty above.",
            check=check("with_seed", lambda text: seeds_of(with_seed=text)),
        )  # fmt: skip
    draft = Draft(begun.name, entries, settings, seeds or "5", with_seed)
    st.subheader("Comparison", anchor=False)
    st.caption("The rule by which the variants are compared, written down before the results are known.")
    return _comparison(begun, draft, check)


def _objectives(begun: Draft, check: Checks) -> tuple[Entry, ...]:
    """Draw a line for every objective; return what they hold."""
    order = [*FIRST, *sorted(set(OBJECTIVES) - set(FIRST))]
    entries = []
    lines = st.session_state[LINES]
    for line in lines:
        first = begun.entries[line] if line < len(begun.entries) else Entry()
        place = f"{line}."
        with st.container(border=True):
            one, other = st.columns([4, 1], vertical_alignment="bottom")
            objective = one.selectbox(
                "Objective", order, order.index(first.objective), format_func=objective_label, key=key(f"{place}objective"),
                persist_state="session",
            )  # fmt: skip
            other.button(
                "Remove", icon=":material/close:", type="tertiary", key=key(f"{place}remove"), on_click=_remove, args=(line,),
                disabled=len(lines) == 1, help="Leave this objective out.",
            )  # fmt: skip
            known = first.values if objective == first.objective else {}
            entries.append(Entry(objective, _values(objective, known, place, check)))
    st.button("Add an objective", icon=":material/add:", on_click=_add)
    return tuple(entries)


def _values(objective: str, first: Mapping[str, str], place: str, check: Checks) -> dict[str, str]:
    """Draw the fields of an objective; return their texts without the empty ones."""

    def of(name: str) -> Check:
        return check(f"0.{name}", lambda text: Draft(entries=(Entry(objective, {name: text}),), settings={}))

    names = parameters_of(objective)
    others = [name for name in first if name not in names and name not in OF_AN_OBJECTIVE]
    values = {}
    for name, column in _columns([*names, *OF_AN_OBJECTIVE, *others]):
        with column:
            text = first.get(name, "")
            if name in names:
                values[name] = parameter_field(objective, name, text, of(name), place=place)
            elif name == LABEL:
                values[name] = text_field(
                    "Label", f"{place}{LABEL}", text, placeholder="from the settings", help="`label`: what the variant is called."
                )
            else:
                values[name] = setting_field(name, text, of(name), place=place, placeholder="as below")
    return {name: text for name, text in values.items() if text}


def _columns(names: Sequence[str]) -> Any:
    """Yield each name with the column for its field, several side by side."""
    rest = iter(names)
    while row := list(islice(rest, PER_ROW)):
        yield from zip(row, st.columns(PER_ROW))


def _add() -> None:
    st.session_state[LINES] = [*st.session_state[LINES], st.session_state[NUMBER]]
    st.session_state[NUMBER] += 1


def _remove(line: int) -> None:
    st.session_state[LINES] = [other for other in st.session_state[LINES] if other != line]


def _settings(begun: Draft, check: Checks) -> dict[str, str]:
    """Draw pairs, models and all other settings; return their texts without the empty ones."""

    def of(name: str) -> Check:
        return check(name, lambda text: Draft(settings={name: text}))

    stored = pair_sets.stored_sets()
    labels = {location: pair_sets.label(name) for name, location in stored.items()}
    worlds = {name: pair_sets.label(name) for name in pair_sets.WORLDS}
    one, other = st.columns(2)
    with one:
        pairs = _sources("pairs", [*worlds, *stored.values()], begun, labels | worlds)
    with other:
        model = _sources("model", list(worlds), begun, worlds)
    values = {"pairs": pairs, "model": model}
    added = [name for name in begun.settings if name not in ALWAYS]
    for name, column in zip(("learning_rate", "steps", "batch_size"), st.columns(3)):
        with column:
            values[name] = setting_field(name, begun.settings.get(name, ""), of(name))
    chosen = st.multiselect(
        "More settings", more_settings(), added, key=key("more"), format_func=field_label, persist_state="session",
        placeholder="Add any setting of a run, with one value or several",
    )  # fmt: skip
    for name, column in _columns(chosen):
        with column:
            values[name] = setting_field(name, begun.settings.get(name, ""), of(name))
    return {name: text for name, text in values.items() if text}


def _sources(name: str, known: Sequence[str], begun: Draft, labels: Mapping[str, str]) -> str:
    """Draw the choice of pairs or models, several of which may be compared; return them as a text."""
    first = [str(value) for value in parse_values(begun.settings.get(name, ""))]
    field = TrainConfig.model_fields[name]
    chosen = st.multiselect(
        title(name, field), list(dict.fromkeys([*known, *first])), first, key=key(name), accept_new_options=True,
        format_func=lambda source: labels.get(source, source), persist_state="session",
        placeholder="Choose, or type a path or owner/name", help=f"{explain(name, field)} Several are compared.",
    )  # fmt: skip
    return write_values(chosen) if chosen else ""


def _comparison(begun: Draft, draft: Draft, check: Checks) -> Draft:
    """Draw what belongs to the comparison; return the draft with it."""
    one, other = st.columns(2)
    metrics = one.multiselect(
        "Measures", list(dict.fromkeys([*MEASURES, *begun.metrics])), begun.metrics, key=key("metrics"), accept_new_options=True,
        format_func=lambda name: metric_of(name).title, persist_state="session",
        placeholder="The best measure of quality that is recorded", help="`metrics`: scalars of evaluations.",
    )  # fmt: skip
    at = other.multiselect(
        "Compared", list(dict.fromkeys([*PLACES, *begun.at])), begun.at, key=key("at"), accept_new_options=True,
        format_func=lambda place: PLACES.get(place, place), persist_state="session",
        placeholder="After training, and at equal KL",
        help="`at`: where variants are compared. A run that moves further from the reference is not better by itself, so equal KL "
        "is fairer than equal steps. Also step=100, kl=2, accuracy=0.7: type it.",
    )  # fmt: skip
    for part, values in (("metrics", metrics), ("at", at)):
        for column, wanted in ((one, "metrics"), (other, "at")):
            if part == wanted and (problem := problems(replace(Draft(), **{part: tuple(values)})).get(part)):  # type: ignore[arg-type]
                column.markdown(f":red[:small[{plain(problem)}]]")
    left, right = st.columns(2)
    labels = starting.variants_of(draft)
    first = begun.baseline if begun.baseline in labels else None
    with left:
        baseline = st.selectbox(
            "Baseline", labels, labels.index(first) if first else None, key=key("baseline"),
            placeholder="None: every variant with every other", persist_state="session",
            help="`baseline`: every variant is compared with this one. Fewer comparisons show smaller differences, because all are "
            "corrected together. Without one, more than four variants are compared with the first.",
        )  # fmt: skip
        if begun.baseline and not first:
            st.markdown(f":orange[:small[{plain(f'{begun.baseline} is no longer a variant; choose the baseline again.')}]]")
    with right:
        smallest = text_field(
            "Smallest difference of interest", "smallest", begun.smallest, placeholder="that of each measure",
            help="`smallest`: the sentences say how many seeds show a difference of this size.",
            check=check("smallest", lambda text: replace(Draft(), smallest=text)),
        )  # fmt: skip
    return replace(draft, metrics=tuple(metrics), at=tuple(at), baseline=baseline or "", smallest=smallest)
