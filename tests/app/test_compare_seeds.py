"""The Compare page with groups of seeds: bands, pairs with intervals, answers that differ most, and the address."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.pages import COMPARE
from app.views.compare.answers import digest
from lab import home
from lab.comparison import Comparison
from lab.pairs import Pair, PairStore
from lab.run.handle import Run
from lab.store import StoreWriter
from tests.app.conftest import HOSTILE_MARKUP
from tests.app.pages import open_page, page_text

GROUPS = [f"{objective}-{seed}" for objective in ("dpo", "sgdpo") for seed in range(3)]


@pytest.fixture
def groups(store_run: Callable[..., Run]) -> list[Run]:
    """Three seeds of two objectives; the last seed of SGDPO has stopped earlier."""
    return [
        store_run(name, objective=name.split("-")[0], seed=int(name[-1]), steps=40, done=30 if name == "sgdpo-2" else 40)
        for name in GROUPS
    ]


def opened(part: str = "curves", **query: str) -> AppTest:
    return open_page(COMPARE, session={"part": part}, timeout=120, runs=",".join(GROUPS), **query)


def legends(app: AppTest) -> list[list[str]]:
    """Names in the legend of every figure."""
    drawn = [json.loads(element.proto.bytes)["figure"]["data"] for element in app.get("bidi_component")]
    return [[trace["name"] for trace in data if trace.get("showlegend", True) and "name" in trace] for data in drawn]


def test_seeds_share_a_curve_and_can_be_parted(groups: list[Run]) -> None:
    app = opened()
    bands = ["A dpo, 3 seeds, 95 % band (t)", "B sgdpo, 3 seeds, 95 % band (t)"]
    assert legends(app)[0] == bands
    text = page_text(app)
    assert "seeds 0, 1, 2: finished, step 40 of 40" in text
    assert "seeds 0, 1, 2: finished, steps 30 to 40 of 40" in text
    assert "95 % interval of the mean over the seeds" in text
    app.toggle(key="seeds").set_value(True).run()
    assert not app.exception
    assert legends(app)[0] == bands
    app.toggle(key="minus").set_value(True).run()
    assert not app.exception
    assert "The difference is made within runs of the same seed (0, 1, 2)" in page_text(app)
    app.toggle(key="minus").set_value(False).run()
    app.toggle(key="grouped").set_value(False).run()
    assert not app.exception
    assert [name[:1] for name in legends(app)[0]] == [*"ABCDEF"]


def test_an_address_parts_the_groups_at_the_first_drawing(groups: list[Run]) -> None:
    assert "A dpo, 3 seeds" not in page_text(opened("settings", grouped="false"))
    assert "A dpo, 3 seeds" in page_text(opened("settings"))


def test_rejected_log_prob_and_the_weights_of_both_sides_are_drawn_at_first(groups: list[Run]) -> None:
    titles = [json.loads(element.proto.bytes)["figure"]["layout"]["title"]["text"] for element in opened().get("bidi_component")]
    for title in (
        "Log-prob of the rejected answer",
        "Weight of the chosen answer",
        "Weight of the rejected answer",
        "Reward margin",
    ):
        assert any(drawn.startswith(title) for drawn in titles), title


def test_more_curves_than_colours_are_refused_in_a_sentence(groups: list[Run], store_run: Callable[..., Run]) -> None:
    more = [store_run(f"more-{number}", objective="dpo", steps=50 + number).dir.name for number in range(7)]
    app = open_page(COMPARE, timeout=120, runs=",".join([*GROUPS, *more]))
    assert "Choose one to 8 runs or groups of seeds to compare; these are 9" in page_text(app)
    app = open_page(COMPARE, timeout=120, runs=",".join([*GROUPS, *more[:3]]), grouped="false")
    assert "these are 9" in page_text(app)
    app.toggle(key="grouped").set_value(True).run()
    assert "these are 9" not in page_text(app)
    assert "3 seeds" in page_text(app)


def test_pairs_have_texts_intervals_and_what_remains_of_many(groups: list[Run]) -> None:
    texts = [Pair(f"pair-{number:03d}", f"Prompt {number} {HOSTILE_MARKUP}", "good", "bad") for number in range(40)]
    PairStore.create(home.home() / "pairs" / "world.sqlite", texts, name="world", source="test")
    for run in groups:  # the versions of a store begin at 1, those of runs that were filled by hand are 0
        writer = StoreWriter(run.dir)
        terms = dict.fromkeys(run.reader.pairs.term_names(), [1.0 + run.manifest["config"]["seed"] ** 2] * 2)
        writer.pair_terms(41, ["pair-003", "pair-004"], [1, 1], {name: _array(values) for name, values in terms.items()})
        writer.scalars(41, {"loss": 1.0})
        writer.status(step=41)
        writer.close()
    app = opened("pairs")
    text = page_text(app)
    assert "compared within runs of the same seed (0, 1, 2); the intervals (95 %, Student's t) are over the seeds" in text
    assert "Benjamini and Hochberg" in text
    table = app.dataframe[0].value
    assert len(table) == 40
    assert table["interval"].str.startswith("[").all()
    assert list(table.columns)[:3] == ["prompt", "difference", "interval"]
    named = table.set_index("pair")
    assert named.loc["pair-003", "prompt"].startswith("Prompt 3 **bold**")
    app.toggle(key="certain").set_value(True).run()
    assert not app.exception
    assert "pairs that are the most certain" in page_text(app)
    app.session_state["compare.pair"] = "pair-003"
    app.run()
    assert not app.exception
    assert "Inspect under A dpo, seed 0" in [button.label.replace("\\", "") for button in app.button]


def _array(values: list[float]) -> Any:
    import numpy as np

    return np.array(values, np.float32)


def test_visits_of_two_runs_have_intervals_too(groups: list[Run]) -> None:
    app = open_page(COMPARE, session={"part": "pairs", "visits": True}, timeout=120, runs="dpo-0,sgdpo-0")
    text = page_text(app)
    assert "compared at the same steps" in text
    assert "not whether another seed would show it" in text
    assert app.dataframe[0].value["count"].iloc[0] == 8, "320 visits of 40 pairs"


def test_answers_that_differ_most_come_first(groups: list[Run]) -> None:
    prompts = ("equal", "texts differ", "rewards differ")
    for run in groups:
        one = run.manifest["config"]["objective"]["name"] == "dpo"
        answers = {"equal": "the answer", "texts differ": "this one" if one else "that one", "rewards differ": "the answer"}
        samples = [
            {"prompt": prompt, "answer": answers[prompt], "reference_answer": "r", "reference_reward": 0.0,
             "reward": 2.0 * one if prompt == "rewards differ" else 1.0}
            for prompt in prompts
        ]  # fmt: skip
        writer = StoreWriter(run.dir)
        writer.event(40, "evaluation", **{"eval/oracle_reward": 1.0}, samples=samples)
        writer.close()
    app = opened("answers")
    table = app.dataframe[0].value
    assert [each for each in table["prompt"] if each in prompts] == ["rewards differ", "texts differ", "equal"]
    assert table["difference"].iloc[0] == "2 [2, 2]"
    assert "The difference" not in page_text(app)
    assert "A dpo, seed 0 at step 40, reward 2" in page_text(app)
    assert re.search(r"of \d+ intervals about \d\.\d exclude 0 by chance alone", page_text(app))
    again = opened("answers", prompt=digest("texts differ"))
    assert "<mark>this</mark> one" in page_text(again)
    assert "<mark>that</mark> one" in page_text(again)


def test_runs_that_differ_in_the_seed_alone_are_named_as_such(groups: list[Run]) -> None:
    for part, sentence in (
        ("pairs", "These 2 runs differ only in their seed, so they count as one. Turn Group seeds off above"),
        ("settings", "These runs differ only in their seed (0, 1): settings, pairs and libraries are the same."),
    ):
        app = open_page(COMPARE, session={"part": part}, timeout=120, runs="dpo-0,dpo-1")
        assert sentence in page_text(app)
        assert [title.value for title in app.title] == ["Compare"]


def test_a_band_ends_where_no_mean_can_be(store_run: Callable[..., Run]) -> None:
    values = {"logps/chosen": (-0.1, -9.0), "eval/repetition": (0.0, 0.9), "loss": (0.1, 9.0)}
    runs = [store_run(f"wide-{seed}", seed=seed, steps=10, done=0) for seed in range(2)]
    for seed, run in enumerate(runs):
        with closing(StoreWriter(run.dir)) as writer:
            for step in (1, 2, 3):
                writer.scalars(step, {name: value[seed] for name, value in values.items()})
    comparison = Comparison(runs)
    ends = {name: comparison.curve(0, name)[["low", "high"]] for name in values}
    assert (ends["logps/chosen"]["high"] == 0).all()
    assert (ends["logps/chosen"]["low"] < -9).all()
    assert (ends["eval/repetition"].to_numpy() == [0, 1]).all()
    assert (ends["loss"]["low"] < 0).all()
