"""The first rows of a source, as a model is trained on them."""

from __future__ import annotations

import re

import streamlit as st

from app.state import pair_sets
from app.state.jobs import require
from app.text.plain import displayable, plain
from lab.pairs import ColumnMapping, Pair, PairsError, answer_text, prompt_text
from lab.policy.sources.model_error import ModelError

from .importing import Source, reader_of, tokenizer_for

ROWS = 3
OTHER = "other"
AS_READ = "none: as they are read"


def show_preview(source: Source, mapping: ColumnMapping) -> None:
    """Draw the first rows, rendered through a model's chat template, and what is wrong with those that are no pairs."""
    st.subheader("The first rows, as they are trained on")
    model = _model()
    try:
        reader = reader_of(source, mapping)
        unit, rows = reader.table.unit, reader.first(ROWS)
    except PairsError as error:
        st.error(plain(in_the_form(str(error))))
        return
    wrong: dict[str, list[int]] = {}
    for number, pair in rows:
        if isinstance(pair, PairsError):
            wrong.setdefault(str(pair), []).append(number)
    for problem, numbers in wrong.items():
        places = f"{unit.capitalize()}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
        st.error(plain(f"{places}: {in_the_form(problem)}"))
    for number, pair in rows:
        if not isinstance(pair, PairsError):
            _row(f"{unit.capitalize()} {number}", pair, model)


def in_the_form(message: str) -> str:
    """Return a message of the import with the fields of the form in place of options of the command line."""
    return re.sub(r"\((?:mapping, )?--map [^()]*\)", "(under Columns)", message)


def _model() -> str | None:
    one, two = st.columns(2)
    chosen = one.selectbox(
        "Model",
        [AS_READ, *pair_sets.WORLDS, OTHER],
        format_func=lambda key: {OTHER: "a folder, or a model of the hub", AS_READ: AS_READ}.get(key) or pair_sets.label(key),
        key="import.model",
        help="Its tokenizer and chat template render the rows.",
    )
    if chosen in pair_sets.WORLDS:
        return str(require(pair_sets.world_job(chosen), retry=pair_sets.forget_failed_world).world.model_dir)
    if chosen == AS_READ:
        return None
    return two.text_input("Folder, or owner/name", key="import.model.path").strip() or None


def _row(place: str, pair: Pair, model: str | None) -> None:
    prompt, answers = prompt_text(pair.prompt), [answer_text(pair.chosen), answer_text(pair.rejected)]
    if model is not None:
        from lab.policy.text.encoding import Encoder
        from lab.policy.text.rendering import rendered

        try:
            prompt, answers = rendered(Encoder(tokenizer_for(model)), pair.context, [pair.chosen, pair.rejected])
        except ModelError as error:
            st.error(plain(error))
            return
        except ValueError as error:
            st.error(plain(f"{place}: {error}"))
            return
    degree = "" if pair.degree is None else f", degree {pair.degree:.2f}"
    with st.container(border=True):
        st.caption(plain(f"{place}{degree}"))
        st.code(displayable(prompt), language=None, wrap_lines=True)
        for column, name, text in zip(st.columns(2), ("Chosen", "Rejected"), answers):
            column.caption(name)
            column.code(displayable(text), language=None, wrap_lines=True)
