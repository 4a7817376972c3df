"""Results of an experiment: sentences with intervals, the differences as a forest plot, and tables that can be sorted and saved."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.text.plain import plain
from app.text.run_text import count_of
from app.views.experiments.fields import MEASURES, PLACES
from app.widgets import save_dialog
from app.widgets.figure import dark
from lab.experiments import Experiment, ExperimentState
from lab.experiments.experiment import ALL_PAIRS
from lab.experiments.metrics import metric_of
from lab.experiments.results import SUMMARY, interval_text, variant_table
from lab.experiments.statistics import Comparisons
from lab.glossary import HELD_OUT
from lab.run.config import ConfigError

COMPARED = "experiment.compared"
"""In the session: the last comparisons, with what they belong to."""
NONE = "every variant with every other"
KEYS = ("metrics", "at", "baseline", "smallest", "rows", "columns")
"""Keys of the fields, most of which are also names in the address."""
FEW = 6
"""Most comparisons of which all sentences are drawn at once."""


def show(experiment: Experiment, state: ExperimentState) -> None:
    """Draw everything, or what is still to come."""
    for note in experiment.notes():
        st.caption(plain(note))
    if not state.count("finished"):
        st.info("The results appear here with the first finished run, and differences with two seeds of two variants.")
        return
    if len(experiment.variants) > 1:
        _comparisons(experiment)
    _tables(experiment)


def _comparisons(experiment: Experiment) -> None:
    """Draw the rule, its sentences and the forest plots."""
    try:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader("Differences", anchor=False, width="content")
            with st.popover("Rule", icon=":material/rule:", help="What is compared, where, and with which variant."):
                rule = _rule(experiment)
            origin = _kind_of_rule(bool(experiment.declaration.compare), any(rule.values()))
            st.caption(plain(f"{origin} {_pairs_of_rule(experiment, rule)}"))
        compared = _compared(experiment, rule)
    except ConfigError as error:
        st.error(plain(error))
        return
    if not len(compared):
        st.info("Nothing is compared: choose two variants, or a baseline that is not the only one, under Rule.")
        return
    _sentences(compared)
    table = compared.table()
    for metric in dict.fromkeys(table["metric"]):
        figure = compared.figure(metric, dark=dark())
        figure.layout.uirevision = f"{experiment.name}/{metric}"
        save_dialog.chart(
            figure,
            f"forest-{metric}",
            title=f"Differences in {metric_of(metric).title.lower()}",
            file=f"{experiment.name}-{metric.replace('/', '-')}-differences",
            data=partial(pd.DataFrame.copy, table),
            caption="One row per comparison: difference, both intervals, p values, seeds, seeds needed, sentence.",
        )
    with st.expander("Comparisons as a table, with the seeds that are needed"):
        st.dataframe(_named(table), hide_index=True, width="stretch")


def _sentences(compared: Comparisons) -> None:
    """Draw the sentences: of many comparisons, those that show a difference, and the others on request."""
    shown = [each.sentence for each in compared if each.shown]
    others = [each.sentence for each in compared if not each.shown]
    if len(compared) <= FEW:
        st.markdown(_bullets(compared.sentences))
        return
    st.markdown(f"**{len(shown):,} of {count_of(len(compared), 'difference')} are shown.**")
    if shown:
        st.markdown(_bullets(shown))
    if others:
        with st.expander(f"{count_of(len(others), 'comparison')} without a shown difference"):
            st.markdown(_bullets(others))


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {plain(sentence)}" for sentence in sentences)


def _kind_of_rule(declared: bool, chosen: bool) -> str:
    """Return a sentence about when the rule was made. declared: by the declaration; chosen: another one on this page."""
    if declared and chosen:
        return "Not by the declared rule. A rule that is chosen after a look at the results shows more than there is."
    return "By the rule that was written down with the declaration." if declared else "The declaration holds no rule."


def _pairs_of_rule(experiment: Experiment, rule: dict[str, Any]) -> str:
    """Return a sentence about which variants are compared with which."""
    baseline = experiment.baseline(rule["variants"] or experiment.variants, rule["baseline"])
    if baseline and not (rule["baseline"] or experiment.declaration.compare.get("baseline")):
        return f"With more than {ALL_PAIRS} variants, each is compared with the first, {baseline}."
    which = "Each chosen variant" if rule["variants"] else "Each variant"
    return f"{which} is compared with {baseline or 'every other'}."


def _rule(experiment: Experiment) -> dict[str, Any]:
    """Draw the fields for another rule than the declared one; return arguments of `Experiment.compare`, empty where not chosen."""
    recorded, declared = experiment.metrics(), experiment.declaration.compare
    metrics = st.multiselect(
        "Measures", [name for name in MEASURES if name in recorded] + [name for name in recorded if name not in MEASURES],
        key="metrics", bind="query-params", format_func=lambda name: metric_of(name).title, persist_state="page",
        placeholder="Those of the declaration" if declared.get("metrics") else "The best measure of quality", width=420,
    )  # fmt: skip
    at = st.multiselect(
        "Compared", list(PLACES), key="at", bind="query-params", format_func=lambda place: PLACES[place], persist_state="page",
        placeholder="Where the declaration says" if declared.get("at") else "After training, and at equal KL", width=420,
    )  # fmt: skip
    variants = st.multiselect(
        "Variants", experiment.variants, key=f"compared.{experiment.name}", persist_state="page", width=420, placeholder="All",
        help="Intervals are corrected for the number of comparisons, so they are narrower where fewer variants are compared.",
    )  # fmt: skip
    baseline = st.selectbox(
        "Baseline", experiment.variants, None, key="baseline", bind="query-params", persist_state="page",
        placeholder=str(declared.get("baseline") or experiment.baseline(variants or experiment.variants) or NONE), width=420,
    )  # fmt: skip
    smallest = st.number_input(
        "Smallest difference of interest", value=None, key="smallest", format="%g", step=0.01, persist_state="page", width=420,
        placeholder=str(declared.get("smallest") or "that of each measure"),
    )  # fmt: skip
    return {"metrics": metrics, "at": at, "variants": variants, "baseline": baseline, "smallest": smallest}


def _compared(experiment: Experiment, rule: dict[str, Any]) -> Comparisons:
    """Return the comparisons, made anew when a run has finished or the rule or the declaration has changed."""
    at = (experiment.folder, str(experiment.declaration), sorted(experiment.records()), str(rule))
    kept = st.session_state.get(COMPARED)
    if kept is None or kept[0] != at:
        made = experiment.compare(
            rule["metrics"] or None, at=rule["at"] or None, variants=rule["variants"] or None, baseline=rule["baseline"],
            smallest=rule["smallest"],
        )  # fmt: skip
        kept = st.session_state[COMPARED] = (at, made)
    compared: Comparisons = kept[1]
    return compared


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of comparisons with readable names."""
    columns = {
        "metric": "Measure", "where": "Compared", "one": "First", "other": "Second", "difference": "First − second",
        "interval": "95 % interval", "corrected": "Corrected interval", "p_adjusted": "Corrected p", "better": "Better",
        "seeds": "Seeds", "seeds_needed": "Seeds needed", "smallest": "to see", "left_out": "Seeds left out",
    }  # fmt: skip
    ends = {"interval": ("low", "high"), "corrected": ("adjusted_low", "adjusted_high")}
    texts = {name: [_ends(*pair) for pair in zip(table[low], table[high])] for name, (low, high) in ends.items()}
    shown = table.assign(metric=[metric_of(name).title for name in table["metric"]], **texts)
    return shown[list(columns)].rename(columns=columns)


def _ends(low: float, high: float) -> str:
    return "" if pd.isna(low) else f"[{low:.3g}, {high:.3g}]"


def _tables(experiment: Experiment) -> None:
    """Draw the variants' means, every run, and the downloads."""
    table, recorded = experiment.table(), experiment.metrics()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Table", anchor=False, width="content")
        each = st.segmented_control(
            "Rows", ["variants", "runs"], default="variants", required=True, format_func=str.capitalize, key="rows",
            bind="query-params", persist_state="page", label_visibility="collapsed",
        )  # fmt: skip
        offered = list(dict.fromkeys([*[name for name in SUMMARY if name in recorded], *recorded]))
        with st.popover("Columns", icon=":material/view_column:"):
            chosen = st.multiselect(
                "Measures", offered, [name for name in SUMMARY if name in recorded][:5], key="columns", bind="query-params",
                format_func=lambda name: metric_of(name).title, persist_state="page", width=420, label_visibility="collapsed",
            )  # fmt: skip
        st.space("stretch")
        _download("Runs", experiment.name, "runs", lambda: experiment.table().reset_index())
        _download("Evaluations", experiment.name, "evaluations", experiment.evaluations)
    if each == "runs":
        _runs(table, chosen)
    else:
        _variants(table, chosen)
    st.caption(
        "After training; a heading sorts. Means over seeds with 95 % intervals (t), without runs that were changed in training."
    )


def _variants(table: pd.DataFrame, chosen: list[str]) -> None:
    numbers = variant_table(table, chosen)
    shown: dict[str, Any] = {
        "Variant": numbers.index,
        "Finished": numbers["finished"].to_numpy(),
        "Runs": numbers["runs"].to_numpy(),
    }
    for name in chosen:
        title, ends = metric_of(name).title, numbers[[name, f"{name} low", f"{name} high"]]
        shown[title] = ends[name].to_numpy()
        shown[f"{title}, interval"] = [interval_text(*row).partition(" ")[2] for row in ends.itertuples(index=False)]
    config = {metric_of(name).title: st.column_config.NumberColumn(format="%.4g", help=name) for name in chosen}
    st.dataframe(pd.DataFrame(shown), hide_index=True, width="stretch", height="content", column_config=config)


def _runs(table: pd.DataFrame, chosen: list[str]) -> None:
    columns = {"variant": "Variant", "seed": "Seed", "state": "State", "step": "Step", "seconds": "Seconds", "error": "Error"}
    columns |= {name: metric_of(name).title for name in chosen}
    for name in map(str, table.columns):
        if name.startswith("best/"):
            columns[name] = f"Best {metric_of(HELD_OUT + name.removeprefix('best/')).title.lower()}"
    shown = table[[name for name in columns if name in table]].rename(columns=columns)
    numbers = [title for name, title in columns.items() if name not in ("variant", "seed", "state", "step", "error")]
    config = {title: st.column_config.NumberColumn(format="%.4g") for title in numbers}
    st.dataframe(shown, hide_index=True, width="stretch", column_config=config)


def _download(label: str, name: str, what: str, make: Any) -> None:
    st.download_button(
        label, lambda: make().to_csv(index=False).encode(), file_name=f"{name}-{what}.csv", mime="text/csv",
        icon=":material/download:", on_click="ignore", help=f"CSV, one row per {what.removesuffix('s')}.",
    )  # fmt: skip
