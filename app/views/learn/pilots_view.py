"""The view of random draws on real tokens: SGDPO's pilots of this draw, and their distribution over many draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

import lab
from app.state.access import may_edit
from app.state.learn_address import LearnState
from app.text.plain import markup, plain
from app.text.run_text import meaning
from app.views.learn import settings
from app.views.learn.shown import Shown
from app.widgets.figure import dark, show
from lab.errors import LabError
from lab.glossary import entry
from lab.objectives import Objective
from lab.plots.landscapes.batch import pilots_figure
from lab.plots.style import palette, translucent
from lab.teaching import PairTokens, current_draw, has_draws, pilot_distribution, tokens_of_pair, tokens_of_world

DRAWS = 1000
WORLD = "The embedded world"
WORLD_PAIRS = 20


def draw(shown: Sequence[Shown], state: LearnState, prefix: str) -> LearnState:
    """Draw the view; return the state, in which only the seed of the draws may change."""
    objectives = [(one.label, one.objective) for one in shown if has_draws(one.objective)]
    if not objectives:
        st.info("None of these objectives draws anything at random. Choose sgdpo on the left to see its pilots.")
        return state
    tokens = _tokens(prefix)
    if tokens is None:
        return state
    st.caption(plain(f"Tokens: {tokens.source}."))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Draw again",
            icon=":material/casino:",
            key=f"{prefix}.pilots.draw",
            on_click=settings.draw_again,
            args=(prefix,),
            help="One other random draw.",
        )
        st.button(
            f"Draw {DRAWS:,} times",
            icon=":material/bar_chart:",
            key=f"{prefix}.pilots.many",
            on_click=_next_series,
            args=(prefix,),
            help="The distributions of another series of draws.",
        )
    seed = st.session_state.get(f"{prefix}.seed", state.plane.seed)
    for label, objective in objectives:
        with st.container(border=True):
            st.markdown(f"**{plain(label)}**")
            _one(label, objective, tokens, seed, st.session_state.get(f"{prefix}.pilots.series", 0))
    return replace(state, plane=replace(state.plane, seed=seed))


def _next_series(prefix: str) -> None:
    """Take the next series of many draws; the current draw stays."""
    key = f"{prefix}.pilots.series"
    st.session_state[key] = st.session_state.get(key, 0) + 1


def _tokens(prefix: str) -> PairTokens | None:
    """Draw the choice of the pair; return its tokens, or None with one sentence why there are none."""
    runs = {run.dir.name: run for run in lab.runs()}
    first, second, third = st.columns([2, 1, 2])
    source = first.selectbox(
        "Tokens of",
        [WORLD, *runs],
        format_func=lambda name: name if name == WORLD else runs[name].name,
        key=f"{prefix}.pilots.source",
        persist_state="page",
    )
    try:
        if source == WORLD:
            number = second.number_input(
                "Pair", 1, WORLD_PAIRS, 1, key=f"{prefix}.pilots.number", persist_state="page", help="One of the world's pairs."
            )
            with st.spinner("Reading the tokens ..."):
                return tokens_of_world(int(number) - 1)
        run = runs[source]
        steps = run.reader.tokens.steps()
        if not steps:
            st.info("This run has stored no token values yet; choose another one, or wait for its next steps.")
            return None
        step = second.selectbox("Step", steps[::-1], key=f"{prefix}.pilots.step.{source}", persist_state="page")
        pairs = sorted(set(run.reader.tokens.read(step)["pair"]))
        pair = third.selectbox("Pair", pairs, key=f"{prefix}.pilots.pair.{source}", persist_state="page")
        return tokens_of_pair(run, step, pair, fetch=may_edit())
    except (LabError, ValueError) as error:
        st.error(plain(str(error)))
        return None


def _one(label: str, objective: Objective, tokens: PairTokens, seed: int, series: int) -> None:
    """Draw one objective's current draw on the tokens, its numbers, and the distributions."""
    try:
        now = current_draw(objective, tokens.logps, seed=seed)
        many = pilot_distribution(objective, tokens.logps, draws=DRAWS, seed=series)
    except ValueError as error:
        st.error(plain(str(error)))
        return
    for column, side, texts in zip(st.columns(2), ("chosen", "rejected"), (tokens.chosen, tokens.rejected)):
        mask = now.masks.get(f"pilot_{side}", ())
        with column:
            st.caption(plain(f"{side.capitalize()} answer: {sum(mask)} of {len(texts)} tokens are in its pilot"))
            st.html(_painted(texts, mask, palette(dark()).chosen if side == "chosen" else palette(dark()).rejected))
    names = [name for name in ("pilot_chosen", "pilot_rejected", "weight_chosen", "weight_rejected") if name in now.terms]
    for cell, name in zip(st.columns(len(names)), names):
        cell.metric(
            entry(name).symbol,
            f"{now.terms[name]:.3g}",
            help=f"{meaning(name)} Over {DRAWS:,} draws: mean {many[name].mean():.3g}, std {many[name].std():.2g}.",
        )
    if {"pilot_chosen", "pilot_rejected"} <= now.terms.keys():
        for column, weights in zip(st.columns(2), (False, True)):
            with column:
                show(pilots_figure(many, now.terms, weights=weights, dark=dark()), key=f"learn-pilots-{label}-{weights}")


def _painted(texts: Sequence[str], mask: Sequence[bool], colour: str) -> str:
    """Return an answer's tokens as HTML; those in the pilot have a background."""
    cells = []
    for number, text in enumerate(texts):
        drawn = number < len(mask) and mask[number]
        background = translucent(colour, 0.45) if drawn else "transparent"
        title = f"token {number + 1} of {len(texts)}: {'in the pilot' if drawn else 'not in the pilot'}"
        cells.append(
            f'<span title="{title}" style="background: {background}; border-radius: 3px; outline: 1px solid #8885; '
            f'padding: 2px 0;">{markup(text)}</span>'
        )
    return f'<div style="white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2;">{"".join(cells)}</div>'
