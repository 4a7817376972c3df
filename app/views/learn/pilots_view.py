"""The view of random draws on real tokens: SGDPO's pilots of this draw, and their distribution over many draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app.state import current_run
from app.state.access import may_edit
from app.state.learn.learn_address import LearnState
from app.text.plain import plain
from app.text.run_text import meaning
from app.views.learn import settings
from app.views.learn.shown import Shown, attempt, show_figure
from app.widgets.figure import dark
from app.widgets.heat import answer_html
from lab.errors import LabError
from lab.glossary import entry
from lab.plots import KINDS, Paint
from lab.plots.landscapes.batch import pilots_figure
from lab.run.handle import Run
from lab.teaching import PairTokens, current_draw, has_draws, pilot_distribution, tokens_of_pair, tokens_of_world

DRAWS = 1000
WORLD = "The embedded world"
WORLD_PAIRS = 20


def draw(shown: Sequence[Shown], state: LearnState, prefix: str) -> LearnState:
    """Draw the view; return the state, which it does not change."""
    drawing = [one for one in shown if attempt(one, has_draws, one.objective)]
    if not drawing:
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
    for one in drawing:
        with st.container(border=True):
            st.markdown(f"**{plain(one.label)}**")
            _one(one, tokens, state.plane.seed, st.session_state.get(f"{prefix}.pilots.series", 0), state.projector)
    return state


def _next_series(prefix: str) -> None:
    """Take the next series of many draws; the current draw stays."""
    key = f"{prefix}.pilots.series"
    st.session_state[key] = st.session_state.get(key, 0) + 1


def _tokens(prefix: str) -> PairTokens | None:
    """Draw the choice of the pair; return its tokens, or None with one sentence why there are none."""
    runs = {run.folder.name: run for run in current_run.offered_runs()}
    first, second, third = st.columns([2, 1, 2])
    source = first.selectbox(
        "Tokens of",
        [WORLD, *runs],
        format_func=lambda name: name if name == WORLD else current_run.label(runs[name]),
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
        run = Run(runs[source].folder)
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


def _one(one: Shown, tokens: PairTokens, seed: int, series: int, large: bool) -> None:
    """Draw one objective's current draw on the tokens, its numbers, and the distributions."""
    now = attempt(one, current_draw, one.objective, tokens.logps, seed=seed)
    many = attempt(one, pilot_distribution, one.objective, tokens.logps, draws=DRAWS, seed=series) if now else None
    if now is None or many is None:
        return
    sides = dict(zip(("chosen", "rejected"), tokens.pieces))
    masks = {side: np.array(now.masks.get(f"pilot_{side}", ()), float) for side in sides}
    painting = Paint(KINDS["pilot"], masks, 1.0, drawn=True)
    for column, (side, pieces) in zip(st.columns(2), sides.items()):
        with column:
            st.caption(plain(f"{side.capitalize()} answer: {int(masks[side].sum())} of {len(masks[side])} tokens are in its pilot"))
            st.html(answer_html(pieces, painting, side, dark()))
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
                figure = pilots_figure(many, now.terms, weights=weights, dark=dark())
                show_figure(figure, f"learn-pilots-{one.label}-{weights}", large=large)
