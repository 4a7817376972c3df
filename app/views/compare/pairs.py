"""The Compare page's pairs: a term of every pair in two runs or groups with its interval, and one pair in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.state.address import put
from app.state.current_run import opened_pair, remember_pair
from app.state.navigation import open_pair
from app.text.plain import displayable, one_line, plain
from app.text.run_text import meaning
from app.views.compare.between import choose as choose_between
from app.views.compare.between import one_curve, seeds_in_words
from app.views.compare.curves import file_name
from app.widgets import save_dialog
from app.widgets.difference import answers_html
from app.widgets.figure import Event, dark
from lab.comparison import MOST, Comparison
from lab.comparison.pair_differences import ALONE, SHOWN, by_certainty, evidence
from lab.comparison.pairwise import Batches
from lab.pairs import Pair, PairsError, PairStore, answer_text, prompt_text
from lab.plots import entry, times_seen
from lab.plots.comparison.against import against
from lab.plots.comparison.overlay import overlay
from lab.run.handle import Run
from lab.store import ENDED, SCREEN_POINTS, RunError

ROWS = 200
"""Pairs in the table: the first in its order."""

EXCERPT = 200
"""Characters of a text in the table."""

TIMES = 6
"""At most this many runs are listed with how often they have seen the opened pair."""

VISIBLE = 1 / 50
"""Pairs are read again when the runs have advanced by this share."""

FIRST_TERMS = ("log_ratio_chosen", "log_ratio_rejected", "logit", "weight_chosen", "weight_rejected")
ADDRESSED = "compare.pair.addressed"
"""In the session: the pair in the address when it was read last."""
CLICKED = "compare.clicked"
"""In the session: run, pair and step of the point that was clicked, until the page is left for it."""


def twins_line(comparison: Comparison) -> None:
    """Draw the result of comparing the batches of twins."""
    if len(comparison.runs) != 2 or len(comparison.groups) != 2 or not comparison.are_twins():
        return
    batches = _batches(comparison)
    if batches.first is not None:
        st.warning(
            plain(f"Twins: {batches.message} Possible cause: one run took edits of its pairs."), icon=":material/call_split:"
        )
    else:
        message = f"Twins: same start, same batches in the same order, two objectives. {batches.message}"
        st.caption(f":material/join: {plain(message)}")


def _batches(comparison: Comparison) -> Batches:
    """Compare the batches, again when the runs have advanced by a quarter, and at their end."""
    key = ("batches", tuple(run.dir for run in comparison.runs))
    last, ended = comparison.last_common_step(), any(run.state in ENDED for run in comparison.runs)
    before, batches = st.session_state.get("compare.batches", {}).get(key, (0, None))
    if batches is None or last > 1.25 * before or (ended and last != before):
        batches = comparison.batches()
        st.session_state["compare.batches"] = {key: (last, batches)}
    return batches


def pairs(comparison: Comparison) -> None:
    """Draw a term of the pairs of two curves as scatter and table, and the chosen pair in both."""
    if clicked := st.session_state.pop(CLICKED, None):
        open_pair(*clicked)
    if len(comparison.groups) < 2:
        st.caption(one_curve(comparison, "its pairs with those of this one"))
        return
    terms = comparison.terms()
    if not terms:
        st.caption("Pairs appear here after the first step of both runs.")
        return
    start = terms.index("log_ratio_chosen") if "log_ratio_chosen" in terms else 0
    with st.container(horizontal=True, vertical_alignment="bottom"):
        between = choose_between(comparison)
        sides = [comparison.groups[number] for number in between]
        term = st.selectbox(
            "Term", terms, index=start, format_func=_named, key="term", bind="query-params", persist_state="page", width=380
        )
        held_out = _toggle("Held-out pairs", "held", "The pairs that are never trained on, at the latest evaluation.")
        single = all(side.single for side in sides)
        visits = single and _toggle(
            "All visits", "visits", "Compare the means over all visits of a pair, with an interval, instead of the latest visit."
        )
        certain = (visits or not single) and _toggle(
            "Most certain first",
            "certain",
            "Order by the difference relative to half its interval, and not by the difference alone.",
        )
    if why := comparison.why_no_pairs(between):
        st.caption(plain(f"{why} Turn Group seeds off above for that, with at most {MOST} runs chosen."))
        return
    table = _table(comparison, term, held_out, visits, between)
    table = by_certainty(table) if certain else table
    rows = table.head(ROWS)
    texts = _texts_of(comparison, between[0], rows)
    labels = [side.label for side in sides]
    left, right = st.columns([2, 3], gap="medium")
    with left:
        prompts = {pair: text[0][:60] for pair, text in texts.items()}
        figure = against(table, term, labels=labels, texts=prompts, dark=dark())
        figure.layout.uirevision = f"{'-'.join(labels)}/{term}/{held_out}/{visits}"
        save_dialog.chart(
            figure,
            "compare-against",
            title=f"{_named(term)}, pair by pair",
            file=file_name(comparison, f"pairs-{term}"),
            data=lambda: table.assign(term=term),
            caption=f"Every pair of both; one is {labels[0]}, other is {labels[1]}.",
            on_click=partial(_clicked, _runs_with_pairs(comparison, between[0])),
        )
    with right:
        st.caption(plain(_explained(comparison, table, between, visits, certain)))
        pair = _choice(comparison, rows, term, texts, between)
    if pair:
        _pair(comparison, pair, between)


def _toggle(label: str, key: str, help: str) -> bool:
    return st.toggle(label, key=key, bind="query-params", persist_state="page", help=help)


def _explained(comparison: Comparison, table: pd.DataFrame, between: tuple[int, int], visits: bool, certain: bool) -> str:
    """Say what the rows are, what their intervals are of, and how many differ for certain."""
    order = "are the most certain" if certain else "differ most"
    what = f"The {min(len(table), ROWS)} pairs that {order}, up to step {comparison.last_common_step():,}, the last common step"
    click = "the first of them are the diamonds. Choose a row to see the pair under both; click a point to inspect it."
    if visits:
        when = "at the same steps" if table.attrs.get("same_steps") else "in their order"
        of = (
            f"Means over the visits of each pair, compared {when}; the intervals (95 %, Student's t) are over them. They tell "
            "how constant a difference was, and not whether another seed would show it; the counts assume independent visits."
        )
    elif "seeds" in table.attrs:
        of = (
            f"Means of the latest values over the seeds, compared {seeds_in_words(table.attrs['seeds'])}; the intervals (95 %, "
            "Student's t) are over the seeds."
        )
    else:
        of = "Latest values, without an interval: All visits, or a group of seeds, shows which differences are more than noise."
        return f"{what}; {click} {of}"
    return f"{what}; {click} {of} {evidence(table).message}"


def _runs_with_pairs(comparison: Comparison, number: int) -> list[Any]:
    return [comparison.runs[member] for member in comparison.groups[number].members]


def _clicked(runs: Sequence[Run], event: Event) -> None:
    """Remember run, pair and step of a clicked point; its custom data begin with pair, difference and step of the first side."""
    if event["custom"]:
        pair, _, step, *_ = event["custom"]
        seen = next((run for run in runs if int(step) in run.reader.pairs.steps_of(str(pair))), runs[0])
        st.session_state[CLICKED] = (seen.dir.name, str(pair), int(step))


def _named(term: str) -> str:
    definition = entry(term)
    return definition.title if definition.title == term else f"{definition.title}, {definition.symbol} ({term})"


def _table(comparison: Comparison, term: str, held_out: bool, visits: bool, between: tuple[int, int]) -> pd.DataFrame:
    key = (tuple(run.dir for run in comparison.runs), comparison.group_seeds, term, held_out, visits, between)
    last = comparison.last_common_step()
    kept, at, table = st.session_state.get("compare.table", (None, -1, None))
    if table is None or kept != key or last < at or last - at > at * VISIBLE:
        table = comparison.pairs(term, held_out=held_out, visits=visits, between=between)
        st.session_state["compare.table"] = (key, last, table)
    return table


def _texts_of(comparison: Comparison, number: int, rows: pd.DataFrame) -> dict[str, tuple[str, str, str]]:
    """Return prompt, chosen and rejected answer of pairs on one line, by id, in the version of the first side's latest row.

    A pair whose text cannot be read is left out.
    """
    run = _runs_with_pairs(comparison, number)[0]
    kept: dict[Any, tuple[str, str, str] | None] = st.session_state.setdefault("compare.texts", {})
    wanted = [
        (str(run.manifest["pairs_store"]), str(pair), int(version)) for pair, version in zip(rows["pair"], rows["version_one"])
    ]
    missing = [key for key in wanted if key not in kept]
    if missing:
        try:
            store = run.pair_store()
        except (PairsError, RunError, OSError):  # the list below names pairs by their ids; the opened pair says why
            return {}
        for key in missing:
            kept[key] = _excerpts(store, key[1], key[2])
    return {key[1]: text for key in wanted if (text := kept[key]) is not None}


def _excerpts(store: PairStore, id: str, version: int) -> tuple[str, str, str] | None:
    try:
        pair = store.get(id, version)
    except (PairsError, KeyError):
        return None
    texts = prompt_text(pair.prompt), answer_text(pair.chosen), answer_text(pair.rejected)
    prompt, chosen, rejected = (one_line(text[:EXCERPT]) for text in texts)
    return prompt, chosen, rejected


def _choice(
    comparison: Comparison,
    table: pd.DataFrame,
    term: str,
    texts: Mapping[str, tuple[str, str, str]],
    between: tuple[int, int],
) -> str:
    """Draw the table; return the pair that is chosen in it, else the one in the address, else ""."""
    labels = [comparison.labels[number] for number in between]
    one, other = (plain(label) for label in labels)
    rows = pd.DataFrame(index=table.index)
    if texts:
        rows["prompt"] = [texts[pair][0] if pair in texts else f"pair {pair}" for pair in table["pair"]]
    rows["difference"] = table["difference"]
    if "low" in table:
        rows["interval"] = [f"[{low:.3g}, {high:.3g}]" if low == low else "" for low, high in zip(table["low"], table["high"])]
        rows["evidence"] = table["evidence"].map({SHOWN: "●", ALONE: "○", "": ""})
    for place, name in ((1, "chosen"), (2, "rejected")):
        if texts:
            rows[name] = [texts[pair][place] if pair in texts else "" for pair in table["pair"]]
    columns = ["one", "other", *(["count"] if "low" in table else []), "step_one"]
    columns += [] if (table["version_one"] == table["version_other"]).all() else ["version_one", "version_other"]
    rows = rows.join(table[[*columns, "pair"]])
    number, text, what = partial(st.column_config.NumberColumn, format="%.4g"), st.column_config.TextColumn, meaning(term)
    config = {
        "difference": number("difference", help=f"{one} less {other}. {what}"),
        "interval": text("95 % interval", help="Of the difference."),
        "evidence": text("shown", help="● the interval excludes 0, also after the correction for all pairs; ○ only by itself."),
        "prompt": text("prompt", width="medium"),
        "chosen": text("chosen", width="medium"),
        "rejected": text("rejected", width="medium"),
        "one": number(labels[0], help=f"Under {one}. {what}"),
        "other": number(labels[1], help=f"Under {other}. {what}"),
        "count": st.column_config.NumberColumn("n", help="Number of seeds, or of visits, behind the interval."),
        "step_one": st.column_config.NumberColumn("step", help=f"Latest step of {one} whose batch contained the pair."),
        "version_one": st.column_config.NumberColumn("version", help=f"Version of the text in that batch of {one}."),
        "version_other": st.column_config.NumberColumn(
            "version of the other", help=f"Version of the text in that batch of {other}."
        ),
        "pair": text("id", help="The pair's id."),
    }
    opened = _opened(comparison, set(table["pair"]))
    event: Any = st.dataframe(
        rows,
        hide_index=True,
        height=360,
        on_select="rerun",
        selection_mode="single-row",
        key="compare.rows",
        column_config=config,
    )
    marked = event.selection.rows
    if not marked:
        st.session_state.pop("compare.marked", None)
    if marked and marked[0] < len(rows):
        chosen = str(rows["pair"].iloc[marked[0]])
        if st.session_state.get("compare.marked") != (marked[0], chosen):  # a click, not the table moving beneath an old one
            fresh = st.session_state.get("compare.marked", (None, ""))[0] != marked[0]
            st.session_state["compare.marked"] = (marked[0], chosen)
            if fresh or not opened:
                opened = chosen
    st.session_state["compare.pair"] = st.session_state[ADDRESSED] = opened
    put(pair=opened or None)
    if opened:
        remember_pair(str(comparison.runs[0].manifest["pairs_store"]), opened)
    return opened


def _opened(comparison: Comparison, pairs: set[str]) -> str:
    """Return the pair of a link or the browser's Back, else the one opened here, else on another page, else ""."""
    named = st.query_params.get("pair", "")
    if named and named != st.session_state.get(ADDRESSED):
        return named
    before = opened_pair(str(comparison.runs[0].manifest["pairs_store"]))
    kept: str = st.session_state.get("compare.pair", "")
    return kept or (before if before in pairs and before is not None else "")


def _pair(comparison: Comparison, pair: str, between: tuple[int, int]) -> None:
    """Draw one pair: its text, and its terms over the steps of each run of two curves."""
    st.subheader("The same pair under both")
    histories = comparison.pair(pair, SCREEN_POINTS)
    groups = [comparison.groups[number] for number in between]
    seen = {group.label: {label: histories[label] for label in group.member_labels if len(histories[label])} for group in groups}
    firsts = {label: next(iter(runs)) for label, runs in seen.items() if runs}
    runs = dict(zip(comparison.run_labels, comparison.runs))
    with st.container(horizontal=True, vertical_alignment="center"):
        for label in firsts.values():
            if st.button(f"Inspect under {plain(label)}", icon=":material/search:", key=f"inspect-{runs[label].dir.name}"):
                open_pair(runs[label].dir.name, pair, int(histories[label].index.max()))
        st.caption(plain(f"Pair {pair}"))
    if not firsts:
        st.caption("Neither of them has seen this pair.")
        return
    times = [f"{label}: {times_seen(frame)}" for frames in seen.values() for label, frame in frames.items()]
    st.caption(plain(". ".join(times[:TIMES]) + (f" (and {len(times) - TIMES} more runs)." if len(times) > TIMES else ".")))
    _texts(comparison, pair, {label: int(histories[label]["version"].iloc[-1]) for label in firsts.values()})
    terms = [term for term in comparison.terms() if all(term in frame for frames in seen.values() for frame in frames.values())]
    chosen = st.pills(
        "Terms",
        terms,
        default=[term for term in FIRST_TERMS if term in terms][:3],
        selection_mode="multi",
        format_func=lambda term: entry(term).title,
        key="compare.pair_terms",
        label_visibility="collapsed",
    )
    for start in range(0, len(chosen), 3):
        for cell, term in zip(st.columns(min(max(len(chosen), 1), 3)), chosen[start : start + 3]):
            curves = {label: {run: _values(frame, term) for run, frame in frames.items()} for label, frames in seen.items()}
            figure = overlay(
                {group.label: frame for group in groups if group.single for frame in curves[group.label].values()},
                term,
                labels=comparison.labels,
                events=comparison.marked(),
                singles={group.label: curves[group.label] for group in groups if not group.single},
                dark=dark(),
            )
            figure.layout.uirevision = f"{pair}/{term}"
            with cell:
                save_dialog.chart(
                    figure,
                    f"compare-pair-{term}",
                    title=f"{_named(term)} of pair {pair}",
                    file=file_name(comparison, f"{term}-of-one-pair"),
                    data=partial(comparison.pair_data, pair, [term]),
                    caption="Every step whose batch contained the pair, for every run.",
                )


def _values(frame: pd.DataFrame, term: str) -> pd.DataFrame:
    """Return a term of a pair's history in the columns of `overlay`."""
    values = pd.DataFrame({"value": frame[term], "step": frame.index.astype(np.int64)})
    values.attrs = frame.attrs | {"of": ("time seen", "times seen")}
    return values


def _texts(comparison: Comparison, pair: str, versions: Mapping[str, int]) -> None:
    """Draw the text that each run saw last, once for runs that saw the same. versions: by the runs' labels."""
    saw: dict[str, tuple[Pair, list[str]]] = {}
    for label, run in zip(comparison.run_labels, comparison.runs):
        if label not in versions:
            continue
        try:
            text = run.pair_store().get(pair, versions[label])
        except (PairsError, RunError, OSError, KeyError) as error:
            st.caption(plain(f"The text of this pair cannot be read as {label} saw it: {error}"))
            continue
        saw.setdefault(repr(text.content), (text, []))[1].append(f"{label} (version {text.version})")
    for text, labels in saw.values():
        whose = "Text" if len(saw) == 1 and len(labels) == len(versions) else f"Text under {' and '.join(labels)}"
        with st.expander(plain(whose), expanded=True):
            st.text(displayable(prompt_text(text.prompt)))
            html = answers_html(answer_text(text.chosen), answer_text(text.rejected))
            for column, side, answer in zip(st.columns(2), ("chosen", "rejected"), html):
                with column, st.container(border=True):
                    st.caption(f"{side.capitalize()} answer")
                    st.html(answer)
