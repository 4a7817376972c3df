"""The Compare page's answers: the prompts whose answers differ most, and the answers side by side."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.state.address import put
from app.text.plain import displayable, one_line, plain
from app.views.compare.between import choose as choose_between
from app.views.compare.between import seeds_in_words
from app.widgets.difference import answer_html, answers_html
from lab.comparison import Comparison
from lab.comparison.answers import Samples, answered, distance, prompts, side_by_side
from lab.comparison.numbers import format_number
from lab.comparison.pair_differences import LEVEL

LATEST = "latest"

EXCERPT = 120
"""Characters of a prompt in the list."""

ROW, HEAD, MOST_ROWS = 35, 38, 8
"""Height of a row and of the head of the list in pixels, and the most rows that are visible at once."""


def answers(comparison: Comparison) -> None:
    """Draw the prompts whose answers differ most, and the answers to one of them at the evaluations nearest to a step."""
    samples = comparison.samples()
    known = prompts(samples)
    if not known:
        st.caption("Sampled answers appear here after the first evaluation of a run.")
        return
    steps = sorted({step for evaluations in samples.values() for step in evaluations})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        between = choose_between(comparison) if len(comparison.groups) > 1 else None
        at = st.selectbox(
            "Evaluation nearest to",
            [LATEST, *steps],
            format_func=lambda step: "the latest of each" if step == LATEST else f"step {step:,}",
            key="compare.evaluation",
            width=260,
        )
        step = None if at == LATEST else int(str(at))
    if between is None:
        prompt = known[0] if len(known) == 1 else st.selectbox("Prompt", known, format_func=one_line, key="compare.prompt")
        _row(side_by_side(samples, prompt, step))
        return
    table = comparison.answer_differences(step, between)
    if table.empty:
        st.caption("These two have answered no common prompt yet.")
        return
    prompt = _choice(comparison, table, between)
    st.text(displayable(prompt))
    _both(comparison, samples, prompt, step, between, _seed(comparison, samples, prompt, step, between))


def _seed(
    comparison: Comparison, samples: Mapping[str, Samples], prompt: str, step: int | None, between: tuple[int, int]
) -> int | None:
    """Draw the choice of the seed whose answers are shown, at first that whose answers differ most; None without a group."""
    sides = [comparison.groups[number] for number in between]
    if all(side.single for side in sides):
        return None
    seeds = comparison.shared_seeds(between) or list(next(side.seeds for side in sides if not side.single))
    first = max(seeds, key=lambda seed: _distance([samples[_label(comparison, number, seed)] for number in between], prompt, step))
    chosen = st.segmented_control(
        "Answers of seed",
        seeds,
        default=first,
        required=True,
        key=f"compare.seed.{hash((tuple(seeds), prompt, step))}",
        help="The list is over all seeds; at first the answers are those of the seed in which they differ most.",
    )
    return first if chosen is None else int(chosen)


def _distance(runs: Sequence[Samples], prompt: str, step: int | None) -> float:
    """Return the share of words that differ between the answers of two runs; -1 if one has none."""
    given = [answered(samples, prompt, step) for samples in runs]
    return distance(*(answer[1]["answer"] for answer in given if answer)) if all(given) else -1.0


def _choice(comparison: Comparison, table: pd.DataFrame, between: tuple[int, int]) -> str:
    """Draw the list of prompts; return the one that is chosen, else the one in the address, else the first."""
    one, other = (comparison.labels[number] for number in between)
    judged = table["difference"].notna().any()
    seeds = comparison.shared_seeds(between)
    if judged:
        known = int(table["low"].notna().sum())
        chance = f"; of {known:,} intervals about {LEVEL * known:.1f} exclude 0 by chance alone"
        over = f"; intervals (95 %, Student's t) are over the seeds, {seeds_in_words(seeds)}{chance}" if known else ""
        st.caption(
            plain(
                f"Prompts by the difference of their rewards, the largest first, equal ones by the difference of the texts{over}."
            )
        )
    else:
        st.caption("Prompts by how many words of the answers differ, the most first; there is no judge.")
    rows = pd.DataFrame({"prompt": [one_line(prompt[:EXCERPT]) for prompt in table["prompt"]]})
    if judged:
        rows["difference"] = [format_number(*row) for row in table[["difference", "low", "high"]].itertuples(index=False)]
        rows[["one", "other"]] = table[["one", "other"]]
    rows["distance"] = table["distance"]
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    config: Mapping[str, Any] = {
        "prompt": text("prompt", width="large" if len(rows.columns) < 4 else 300),
        "difference": text("difference", width=160, help=f"Reward of {plain(one)} less that of {plain(other)}."),
        "one": number(one, format="%.3g", help="Mean reward of its answers."),
        "other": number(other, format="%.3g", help="Mean reward of its answers."),
        "distance": st.column_config.ProgressColumn("words that differ", min_value=0, max_value=1, format="percent"),
    }
    event: Any = st.dataframe(
        rows,
        hide_index=True,
        height=HEAD + ROW * min(len(rows), MOST_ROWS),
        on_select="rerun",
        selection_mode="single-row",
        key=f"compare.prompts.{hash(tuple(table['prompt']))}",
        column_config=config,
    )
    order = list(table["prompt"])
    marked = event.selection.rows
    if marked and marked[0] < len(order):
        put(prompt=digest(order[marked[0]]))
        return order[marked[0]]
    addressed = st.query_params.get("prompt")
    return next((prompt for prompt in order if digest(prompt) == addressed), order[0])


def digest(prompt: str) -> str:
    """Return the name of a prompt in the address."""
    return hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def _both(
    comparison: Comparison,
    samples: Mapping[str, Samples],
    prompt: str,
    step: int | None,
    between: tuple[int, int],
    seed: int | None,
) -> None:
    """Draw the answers of two runs with their differences marked, beside the reference; then those of the other curves."""
    labels = {number: _label(comparison, number, seed) for number in range(len(comparison.groups))}
    chosen = [labels[number] for number in between]
    given = [answered(samples[label], prompt, step) for label in chosen]
    texts = [answer[1]["answer"] if answer else "" for answer in given]
    marked = answers_html(texts[0], texts[1], ("first", "second"))
    table = side_by_side({label: samples[label] for label in chosen}, prompt, step)
    references = [row for _, row in table.iterrows() if row["label"].startswith("reference")]
    cells = st.columns(2 + len(references))
    for cell, row in zip(cells, references):
        _card(cell, row)
    for cell, label, answer, html in zip(cells[len(references) :], chosen, given, marked):
        with cell, st.container(border=True):
            if answer is None:
                st.caption(plain(f"{label} has not answered this prompt."))
                continue
            st.caption(plain(f"{label} at step {answer[0]}{_reward(float(answer[1].get('reward', 'nan')))}"))
            st.html(html)
    others = {label: samples[label] for number, label in labels.items() if number not in between}
    if others:
        rows = side_by_side(others, prompt, step)
        _row(rows[~rows["label"].str.startswith("reference")])


def _label(comparison: Comparison, number: int, seed: int | None) -> str:
    """Return the label of a curve's run: of a group that with a seed, or the first."""
    group = comparison.groups[number]
    return group.member_labels[group.seeds.index(seed) if seed in group.seeds else 0]


def _row(table: pd.DataFrame) -> None:
    """Draw answers side by side, three in a row."""
    for start in range(0, len(table), 3):
        part = table.iloc[start : start + 3]
        for cell, (_, row) in zip(st.columns(len(part)), part.iterrows()):
            _card(cell, row)


def _card(cell: Any, row: pd.Series) -> None:
    with cell, st.container(border=True):
        reference = row["label"].startswith("reference")
        whose = f"R{row['label'][1:]}" if reference else f"{row['label']} at step {row['step']:,}"  # labels keep their letters
        st.caption(plain(f"{whose}{_reward(float(row['reward']))}"))
        st.html(answer_html(row["answer"]))


def _reward(reward: float) -> str:
    return "" if math.isnan(reward) else f", reward {reward:.3g}"
