"""The Compare page over stores that were filled by hand; what only a browser can show is in test_compare_browser.py."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

import lab
from app.pages import COMPARE
from app.views.compare import curves
from app.widgets import save_dialog
from lab import home
from lab.pairs import Pair, PairStore
from lab.run.handle import Run
from lab.store import StoreWriter, write_twins
from tests.app.conftest import HOSTILE_MARKUP, SAMPLE_PROMPT
from tests.app.pages import MAIN, open_page, page_text
from tests.helpers import until


def opened(runs: str | None = None, part: str | None = None) -> AppTest:
    session = {} if part is None else {"part": part}
    return open_page(COMPARE, session=session, timeout=120, **({} if runs is None else {"runs": runs}))


def figures(app: AppTest) -> dict[str, dict[str, Any]]:
    """Every figure of the page by its title."""
    found = [json.loads(element.proto.bytes)["figure"] for element in app.get("bidi_component")]
    return {figure["layout"]["title"]["text"].split("  <span")[0]: figure for figure in found}


def names(figure: dict[str, Any]) -> list[str]:
    return [trace["name"] for trace in figure["data"] if trace.get("showlegend", True) and "name" in trace]


def two(store_run: Callable[..., Run], **more: Any) -> tuple[Run, Run]:
    return store_run("first", objective="dpo", steps=60), store_run("second", objective="sgdpo", steps=60, **more)


def test_before_there_are_two_runs_the_page_says_so_and_offers_twins(store_run: Callable[..., Run]) -> None:
    app = opened()
    assert "No run yet" in page_text(app)
    assert "start twins here" in page_text(app)
    store_run("one")
    app = opened()
    assert "One run yet" in page_text(app)
    assert "Train a second one" in page_text(app)
    assert any(button.label == "Start the twins" for button in app.button)


def test_curves_of_both_with_a_colour_and_a_dash_each(store_run: Callable[..., Run]) -> None:
    two(store_run)
    app = opened("first,second")
    shown = figures(app)
    assert {"Reward margin", "Oracle reward of sampled answers", "Distance from the reference (KL)"} <= shown.keys()
    assert names(shown["Reward margin"]) == ["A dpo", "B sgdpo"]
    lines = [trace["line"] for trace in shown["Reward margin"]["data"] if trace.get("line", {}).get("width") == 2]
    assert len({line["color"] for line in lines}) == len({line["dash"] for line in lines}) == 2
    said = page_text(app)
    assert "first: finished, step 60 of 60" in said
    assert "Twins" not in said
    app.session_state["x"] = "kl"
    app.run()
    assert not app.exception
    assert figures(app)["Oracle reward of sampled answers"]["layout"]["xaxis"]["title"]["text"] == "KL(π‖ref) [nats per answer]"
    app.session_state["minus"] = True
    app.run()
    assert "Oracle reward of sampled answers: A − B" in figures(app)


def test_the_address_chooses_and_follows(store_run: Callable[..., Run]) -> None:
    two(store_run)
    store_run("third", objective="alpha_dpo", steps=30)
    app = opened("third,first,nowhere")
    assert app.multiselect(key="compare.runs").value == ["third", "first"]
    assert "There is no run nowhere" in page_text(app)
    app.multiselect(key="compare.runs").set_value(["first", "second", "third"]).run()
    assert not app.exception
    assert app.query_params["runs"] in ("first,second,third", ["first,second,third"])
    assert names(figures(app)["Reward margin"]) == ["A dpo", "B sgdpo", "C alpha_dpo"]
    app.multiselect(key="compare.runs").set_value([]).run()
    assert "Choose two to 8 runs" in page_text(app)


def test_what_differs_and_what_is_the_same(store_run: Callable[..., Run]) -> None:
    two(store_run, batch_size=4)
    differs, same = (frame.value for frame in opened("first,second", "settings").dataframe)
    assert differs.loc["objective"].tolist() == ["dpo", "sgdpo"]
    assert differs.loc["batch_size"].tolist() == ["8", "4"]
    assert differs.loc["objective.r1"].tolist() == ["–", "0.6"]
    assert "learning_rate" in same.index
    assert "learning_rate" not in differs.index


def test_numbers_with_intervals_and_at_the_same_distance(store_run: Callable[..., Run]) -> None:
    two(store_run)
    latest, matched = (frame.value for frame in opened("first,second", "numbers").dataframe)
    assert latest.loc["Oracle reward of sampled answers"].tolist() == ["0.62 [0.57, 0.67]"] * 2
    assert matched.loc["Step"].tolist() == ["60", "60"]


def test_twins_pair_by_pair(store_run: Callable[..., Run]) -> None:
    one, other = two(store_run)
    write_twins([one.dir, other.dir])
    app = opened("first,second", "pairs")
    assert "Twins: same start, same batches" in page_text(app)
    assert "every one of the 60 steps compared" in page_text(app)
    table = app.dataframe[0].value
    assert set(table["pair"]) == set(one.pairs()["pair"])
    assert (table["difference"].abs().diff().dropna() <= 1e-6).all()
    assert "Log-ratio of the chosen answer, pair by pair" in figures(app)
    pair = table["pair"].iloc[0]
    app.session_state["compare.pair"] = pair
    app.run()
    assert not app.exception
    said = page_text(app)
    assert f"Pair {pair}" in said
    assert "The text of this pair cannot be read" in said, "these runs' pair store is not there"
    assert names(figures(app)["Logit"]) == ["A dpo", "B sgdpo"]
    assert [button.label for button in app.button if button.label.startswith("Inspect")] == [
        "Inspect under A dpo",
        "Inspect under B sgdpo",
    ]


def saw(run: Run, pair: str, version: int, *, times: int = 1) -> None:
    """One more step of a run (or several) that saw a version of a pair."""
    store = StoreWriter(run.dir)
    for step in range(run.step + 1, run.step + 1 + times):
        names = run.reader.pairs.term_names()
        store.pair_terms(step, [pair], [version], {name: np.array([float(step)]) for name in names})
        store.scalars(step, {"loss": 1.0})
        store.status(step=step)
    store.close()


def test_the_text_of_a_pair_is_what_each_run_saw(store_run: Callable[..., Run]) -> None:
    one = store_run("first", objective="dpo", steps=60)
    other = store_run("second", objective="sgdpo", steps=60, pairs="others")
    ids = ["pair-003", "pair-004", "pair-005"]
    texts = {name: [Pair(id, f"{HOSTILE_MARKUP} {id}", "good", f"bad of {name}") for id in ids] for name in ("world", "others")}
    texts["others"][0] = texts["world"][0]
    places = {name: home.home() / "pairs" / f"{name}.sqlite" for name in texts}
    sets = {n: PairStore.create(places[n], texts[n][:3] if n == "others" else texts[n][:2], name=n, source="test") for n in texts}
    sets["world"].edit("pair-003", chosen="better")
    sets["world"].edit("pair-003", chosen="never seen")
    for pair, versions in (("pair-003", (1, 1)), ("pair-004", (1, 1)), ("pair-005", (1, 1))):
        for run, version in zip((one, other), versions):
            saw(run, pair, version)

    def shown(pair: str) -> str:
        app = opened("first,second", "pairs")
        app.session_state["compare.pair"] = pair
        app.run()
        assert not app.exception
        expanders = [block.label.replace("\\", "") for block in app.expander]
        return " | ".join(expanders) + page_text(app)

    assert "Text under" not in shown("pair-003"), "both saw the same"
    both = shown("pair-004")
    assert "Text under A dpo (version 1) | Text under B sgdpo (version 1)" in both
    assert "bad of others" in both.replace("<mark>", "").replace("</mark>", "")
    lost = shown("pair-005")
    assert "cannot be read as A dpo saw it" in lost
    assert "Text under B sgdpo (version 1)" in lost
    saw(one, "pair-003", 2)
    edited = shown("pair-003")
    assert "Text under A dpo (version 2) | Text under B sgdpo (version 1)" in edited
    assert "better" in edited
    assert "never seen" not in edited
    table = opened("first,second", "pairs").dataframe[0].value.set_index("pair")
    assert "version_one" not in table, "up to the last step of both they are the same"
    saw(other, "pair-009", 0)
    table = opened("first,second", "pairs").dataframe[0].value.set_index("pair")
    assert table.loc["pair-003", ["version_one", "version_other"]].tolist() == [2, 1]


def test_a_pair_that_was_seen_often_is_thinned_for_the_screen_and_whole_in_a_file(store_run: Callable[..., Run]) -> None:
    one, _ = two(store_run)
    saw(one, "pair-003", 0, times=1500)
    app = opened("first,second", "pairs")
    app.session_state["compare.pair"] = "pair-003"
    app.run()
    assert not app.exception
    title = next(name for name in titles(app) if name.startswith("Log-ratio of the chosen answer  "))
    count = len(one.reader.pairs.steps_of("pair-003"))
    assert f"12 to {count:,} times seen per run<" in title
    assert f"A dpo: 1,000 of {count:,} times seen, evenly chosen. B sgdpo: 12 times seen." in page_text(app)
    drawn = figures(app)["Log-ratio of the chosen answer"]["data"]
    assert all(sizes(trace) <= 1000 for trace in drawn)
    data = lab.compare(["first", "second"]).pair_data("pair-003", ["logit"])
    assert data.groupby("run")["logit"].count().tolist() == [count, 12]


def test_every_chart_can_be_saved_whole(store_run: Callable[..., Run]) -> None:
    two(store_run)
    app = opened("first,second")
    for changed in ({"minus": True}, {"part": "pairs", "compare.pair": "pair-003"}):
        assert saving_flags(app) == {True}
        for key, value in changed.items():
            app.session_state[key] = value
        app.run()
        assert not app.exception
    assert saving_flags(app) == {True}
    less = curves._data(lab.compare(["first", "second"]), "loss", "step", (0, 1))
    assert less.columns.tolist() == ["x", "step", "value", "mean", "scalar", "axis"]
    assert len(less) == len(curves._data(lab.compare(["first", "second"]), "loss", "step", None)) / 2 == 60
    frame = lab.compare(["first", "second"]).data(["loss"])
    app.session_state[save_dialog.REQUESTED] = save_dialog.Picture(
        "Loss", "first-second-loss", go.Figure, lambda: frame, "Every run."
    )
    app.run()
    assert not app.exception
    assert "first-second-loss.csv" in page_text(app)
    assert app.get("download_button")


def test_symbols_are_explained_on_hover(store_run: Callable[..., Run]) -> None:
    two(store_run)
    numbers = json.loads(opened("first,second", "numbers").dataframe[0].proto.columns)["_index"]["help"].replace("\\", "")
    assert "**Distance from the reference (KL)** KL(π‖ref) [nats per answer]:" in numbers
    pairs = json.loads(opened("first,second", "pairs").dataframe[0].proto.columns)["one"]["help"].replace("\\", "")
    assert "log X₁ [nats]: log π(y_w|x) − log ref(y_w|x)" in pairs


def saving_flags(app: AppTest) -> set[bool]:
    """Whether the figures of the page have a button that saves."""
    return {json.loads(element.proto.bytes)["saves"] for element in app.get("bidi_component")}


def titles(app: AppTest) -> list[str]:
    return [json.loads(element.proto.bytes)["figure"]["layout"]["title"]["text"] for element in app.get("bidi_component")]


def sizes(trace: dict[str, Any]) -> int:
    """Points of a trace."""
    x = trace["x"]
    return len(base64.b64decode(x["bdata"])) // int(x["dtype"][1:]) if isinstance(x, dict) else len(x)


def test_twins_whose_batches_part_are_named(store_run: Callable[..., Run]) -> None:
    one, other = two(store_run, batch_size=4)
    write_twins([one.dir, other.dir])
    assert "The batches differ from step 1 on" in page_text(opened("first,second"))


def test_answers_side_by_side_are_text(store_run: Callable[..., Run]) -> None:
    two(store_run)
    app = opened("first,second", "answers")
    texts = [element.value for element in app.text]
    assert texts == [SAMPLE_PROMPT]
    assert f"Reference {HOSTILE_MARKUP}</div>" in page_text(app)
    assert page_text(app).count("An answer after 60 steps. **bold** :red[x]</div>") == 2, "equal answers have no marks"
    assert "A dpo at step 60, reward 0.62" in page_text(app)
    app.selectbox(key="compare.evaluation").select(0).run()
    assert "A dpo at step 0, reward 0.31" in page_text(app)


def test_runs_without_a_step_and_a_store_that_is_damaged(store_run: Callable[..., Run]) -> None:
    store_run("first", state="queued", done=0)
    store_run("second", state="queued", done=0)
    for part, said in (
        ("curves", "curves appear"),
        ("numbers", "Numbers appear"),
        ("pairs", "Pairs appear"),
        ("answers", "answers appear"),
    ):
        assert said in page_text(opened("first,second", part))


@pytest.mark.extended
def test_the_form_starts_twins(model_folder: Any, rows: Any, tmp_path: Path) -> None:
    """From nothing chosen to two runs that know each other; the settings are those of a run that is there."""
    quick: dict[str, Any] = {"steps": 2, "batch_size": 4, "evaluate": False, "device": "cpu"}
    lab.train("ipo", rows, model_folder("llama"), background=False, **quick)
    app = opened()
    app.radio(key="twins.way").set_value("like").run()
    app.selectbox(key="twins.A.objective").select("dpo").run()
    assert not app.exception
    next(button for button in app.button if button.label == "Start the twins").click().run()
    assert not app.exception
    until(
        lambda: len(lab.runs()) == 3 and all(run.state == "finished" for run in lab.runs()),
        300,
        describe=lambda: str([(run.name, run.state, run.error) for run in lab.runs()]),
    )
    assert sorted(run.config.objective.name for run in lab.runs()) == ["dpo", "ipo", "sgdpo"]
    first = next(run for run in lab.runs() if run.config.objective.name == "dpo")
    assert [twin.config.objective.name for twin in first.twins] == ["sgdpo"]
    assert (first.config.steps, first.config.batch_size) == (2, 4)
    assert Path(first.config.model).resolve() == model_folder("llama").resolve()
    assert home.runs_dir().exists()


@pytest.mark.parametrize("twin", ["none", "ipo"])
def test_a_new_run_can_have_a_twin(twin: str) -> None:
    app = AppTest.from_file(str(Path(MAIN).parent / "views" / "new_run" / "new_run.py"), default_timeout=120).run()
    assert not app.exception
    app.selectbox(key="twin").select(twin).run()
    assert not app.exception
    labels = [button.label for button in app.button]
    assert ("Start the twins" in labels) == (twin == "ipo")
    assert ("Start the run" in labels) == (twin == "none")
