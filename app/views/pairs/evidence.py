"""Evidence: take terms of a run to the list, run the checks, look for flipped labels, and open what they find."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from app.state import evidence, pair_sets
from app.state.access import WHY, may_edit, require_edit
from app.state.address import put
from app.state.current_run import label, offered_runs
from app.state.jobs import show_progress
from app.text.findings import check_explanation, check_title
from app.text.plain import plain
from app.views.pairs.exporting import findings_button
from app.views.pairs.filters import filter_finding, set_range, sort_by
from app.widgets import figure
from app.widgets.pairs.acting import DONE, act
from lab.evidence import EVIDENCE, share_sentence
from lab.pairs import PairStore
from lab.plots import entry
from lab.plots.pair_set import cartography
from lab.run.handle import Run
from lab.store.terms import MARGIN


def show_evidence(store: PairStore) -> None:
    """Draw the evidence that the set has, and what more can be taken."""
    if not may_edit():
        st.info(WHY)
        return
    runs = {run.folder.name: Run(run.folder, check=False) for run in offered_runs() if run.pairs_store == str(store.location)}
    one, two, three = st.columns(3, gap="large")
    with one:
        st.subheader("Checks", anchor=False)
        _checks(store, runs)
    with two:
        st.subheader("Flipped labels", anchor=False)
        _search(store, runs)
    with three:
        st.subheader("A run's view", anchor=False)
        _terms(store, runs)
    if store.finding_counts():
        findings_button(store)
    if evidence.number_name(evidence.FLIPPED, "confidence") in store.number_names():
        _map(store)


def _counts(counts: Mapping[str, int]) -> None:
    """Draw one button per kind of finding, which lists its pairs."""
    for name, count in counts.items():
        st.button(
            plain(f"{check_title(name)}: {count:,}"),
            key=f"check.{name}",
            on_click=_list_finding,
            args=(name,),
            help=check_explanation(name),
        )


def _list_finding(name: str) -> None:
    filter_finding(name)
    put(view=None)


def _running(store: PairStore, kind: str) -> bool:
    """Draw the progress of work in the background, or its end; return whether it is running."""
    key = (str(store.location), kind)
    job = evidence.JOBS.get(key)
    if job is None:
        return False
    if not job.done.wait(0.2):
        show_progress(job)
        return True
    evidence.JOBS.forget(key, job)
    if job.error:
        st.error(plain(job.error))
    else:
        st.success(plain(job.result))
    return False


def _checks(store: PairStore, runs: Mapping[str, Run]) -> None:
    st.caption("Duplicates, contradictions, leaks, truncated answers, refusals and more, from the texts alone.")
    if (bias := store.length_bias()) is not None:
        st.caption(plain(bias.sentence))
    running = _running(store, "checks")
    sets = {key: place for key, place in pair_sets.stored_sets().items() if place != store.location}
    pair_sets.resend_label("checks.held_out")
    held_out = st.selectbox(
        "Held-out pairs",
        [None, *sets, *runs],
        format_func=lambda key: "none" if key is None else pair_sets.label(key) if key in sets else f"those of {label(runs[key])}",
        key="checks.held_out",
        help="A set, or the held-out pairs of a run, that must not be trained on: the checks look for them in this set.",
    )
    counts = {name: count for name, count in store.finding_counts().items() if name not in EVIDENCE}
    st.button(
        "Run the checks again" if counts else "Run the checks",
        icon=":material/rule:",
        type="secondary" if counts else "primary",
        disabled=running,
        on_click=evidence.start_checks,
        args=(store, sets.get(held_out or ""), runs.get(held_out or "")),
    )
    _counts(counts)


def _search(store: PairStore, runs: Mapping[str, Run]) -> None:
    st.caption(
        "Short runs, each without a part of the pairs, judge the labels that they have not seen. The 3,000 pairs of the embedded "
        "world take about two minutes on two cores."
    )
    running = _running(store, evidence.FLIPPED)
    models = list(dict.fromkeys([*pair_sets.WORLDS, *(str(run.manifest["config"]["model"]) for run in runs.values())]))
    model = st.selectbox("Model", models, key="search.model", help="The model that the short runs begin with.") or "world"
    left, right = st.columns(2)
    folds = int(left.number_input("Parts", 2, 10, 3, key="search.folds", help="Runs per repeat; each leaves one part out."))
    repeats = int(right.number_input("Repeats", 1, 10, 1, key="search.repeats", help="More repeats find more, and take longer."))
    st.button(
        "Look for flipped labels",
        icon=":material/troubleshoot:",
        disabled=running,
        on_click=evidence.start_search,
        args=(store, model, folds, repeats),
    )
    _counts({name: count for name, count in store.finding_counts().items() if name == "probably_flipped"})


def _terms(store: PairStore, runs: Mapping[str, Run]) -> None:
    if not runs:
        st.info("No run has trained on this set yet. Start one on New run; its margins and losses can then sort this list.")
        return
    run = runs[st.selectbox("Run", list(runs), key="evidence.run", format_func=lambda name: label(runs[name]))]
    known = evidence.terms_of(run)
    terms = st.multiselect(
        "Terms", known, known[:2], key=f"evidence.terms.{run.dir.name}", format_func=lambda name: entry(name).title
    )
    st.button(
        "Take to the list",
        icon=":material/table_view:",
        disabled=not terms,
        on_click=act,
        args=(lambda: evidence.load_terms(store, run, terms), "The list can now be sorted and filtered by these terms."),
        help="The values of each pair when it was last in a batch. Press again to renew them while the run trains.",
    )
    st.button(
        "Model disagrees",
        icon=":material/thumbs_up_down:",
        disabled=MARGIN not in known,
        on_click=_disagrees,
        args=(store, run),
        help="List the pairs whose rejected answer has the higher reward, the clearest first.",
    )
    st.button(
        "Never learned and forgotten",
        icon=":material/history:",
        disabled=MARGIN not in known,
        on_click=_trajectories,
        args=(store, run),
        help="Find pairs that the run never came to prefer, or preferred and lost again; it has to see pairs more than once.",
    )
    _counts({name: count for name, count in store.finding_counts().items() if name in EVIDENCE and name != "probably_flipped"})
    kept = [name for name in store.number_names() if name.startswith(f"{run.dir.name}/")]
    if kept:
        st.caption(plain(f"In the list: {', '.join(entry(name.partition('/')[2]).title for name in kept)}."))
        st.button("Remove them from the list", on_click=act, args=(lambda: _forget(store, kept),))


def _forget(store: PairStore, names: list[str]) -> None:
    require_edit()
    for name in names:
        store.forget_numbers(name)


def _disagrees(store: PairStore, run: Run) -> None:
    if act(lambda: evidence.load_terms(store, run, [MARGIN])) is None:
        return
    name = evidence.number_name(run.dir.name, MARGIN)
    set_range(name, None, 0.0)
    sort_by(name, descending=False)
    put(view=None)


def _trajectories(store: PairStore, run: Run) -> None:
    if (sentence := act(lambda: evidence.load_trajectories(store, run))) is not None:
        st.session_state[DONE] = sentence


def _map(store: PairStore) -> None:
    """Draw the map of the pairs; a brushed box lists its pairs."""
    frame = evidence.map_frame(store)
    figure.show(cartography(frame, dark=figure.dark()), key="pairs.map", name="pairs-map", on_click=_open, on_brush=_brushed)
    st.caption(plain(f"{share_sentence(frame)} Drag over the map to list those pairs; click a point to open its pair.".strip()))


def _open(event: figure.Event) -> None:
    custom = event["custom"]
    if custom:
        put(pair=str(custom if isinstance(custom, str) else custom[0]), view=None)


def _brushed(event: figure.Event) -> None:
    if event["x"] is None or event["y"] is None:
        return
    set_range(evidence.number_name(evidence.FLIPPED, "variability"), *event["x"])
    set_range(evidence.number_name(evidence.FLIPPED, "confidence"), *event["y"])
    sort_by(evidence.number_name(evidence.FLIPPED, "probability"), descending=True)
    put(view=None)
