"""The Pairs page: list, search and filters, one pair opened, every change with undo, and text that stays text."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from streamlit.testing.v1 import AppTest

import lab
import lab.world
from app.state import pair_sets
from app.state.evidence import FLIPPED, number_name
from app.text.numbers_of_pairs import number_heading, number_label
from app.text.plain import plain
from app.views.pairs import changes
from app.views.pairs.exporting import OTHER, exported, file_name
from app.widgets import examining
from app.widgets.difference import STYLE, answers_html
from app.widgets.pairs import pair_view, text_editor
from lab import home
from lab.pairs import KnownSet, Pair, PairStore, open_pairs
from lab.pairs.checks import Finding
from tests.helpers import open_tiny_worlds

PAGE = Path(__file__).parents[2] / "app" / "views" / "pairs" / "pairs.py"
NASTY = "# <b>x</b> $x$ ![](http://x.invalid/p.png) :red[y] <script>alert(1)</script>"


def make_store(count: int = 60, name: str = "mine", **more: Any) -> PairStore:
    rows = [{"prompt": f"{NASTY} {i}", "chosen": f"good {NASTY} {i}", "rejected": f"bad answer {i}", **more} for i in range(count)]
    return open_pairs(rows, home=home.home() / "pairs", name=name)


def open_page(store: PairStore, pair: str | None = None, **query: str) -> AppTest:
    at = AppTest.from_file(PAGE, default_timeout=60)
    at.query_params["pairs"] = store.path.name
    if pair:
        at.query_params["pair"] = pair
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception
    return at


def press(at: AppTest, label: str) -> AppTest:
    next(button for button in at.button if button.label == label).click().run()
    assert not at.exception
    return at


def edit(at: AppTest, label: str, text: str) -> AppTest:
    """Type into a field of the form and save; what is typed is sent together with the press."""
    next(area for area in at.text_area if area.label == label).input(text)
    return press(at, "Save")


def labels(at: AppTest) -> list[str]:
    return [button.label for button in at.button]


def query(at: AppTest, name: str) -> str | None:
    value = at.query_params.get(name)
    return value[0] if isinstance(value, list) else value


def listed(at: AppTest) -> dict[str, Any]:
    """Return what the browser receives of the list."""
    (drawn,) = [element.proto for element in at.get("bidi_component") if element.proto.component_name == "lab_rows"]
    return json.loads(drawn.bytes)


def column(at: AppTest, title: str) -> list[str]:
    page = listed(at)
    number = [column["title"] for column in page["columns"]].index(title)
    return [row["cells"][number]["text"] for row in page["rows"]]


def errors(at: AppTest) -> list[str]:
    return [e.value.replace("\\", "") for e in at.error]


def test_a_page_holds_25_pairs_and_says_how_many_there_are() -> None:
    store = make_store()
    at = open_page(store)
    assert not at.exception
    assert len(listed(at)["rows"]) == 25
    assert [t.value for t in at.text] == ["60 pairs"]
    at.pagination[0].set_value(3).run()
    assert column(at, "Rejected") == [f"bad answer {i}" for i in range(50, 60)]
    assert query(at, "sheet") == "3"
    again = open_page(store, sheet="3")
    assert len(listed(again)["rows"]) == 10
    assert len(listed(open_page(store, sheet="99"))["rows"]) == 10
    assert len(listed(open_page(store, sheet="-1"))["rows"]) == 25


def test_search_and_filters_say_how_many_match() -> None:
    store = make_store()
    store.drop(store.ids()[7])
    store.edit(store.ids()[3], chosen="edited")
    at = open_page(store, sheet="2")
    at.text_input(key="search").input("BAD ANSWER 5").run()
    assert [t.value for t in at.text] == ["11 pairs that match, of 59"]
    assert query(at, "sheet") is None
    assert [row["cells"][3]["hits"] for row in listed(at)["rows"]] == [[[0, 12]]] * 11
    at.text_input(key="search").input("").run()
    at.segmented_control(key="show").select("Dropped").run()
    assert [t.value for t in at.text] == ["1 dropped pair"]
    at.segmented_control(key="show").select("Edited").run()
    assert column(at, "Chosen") == ["edited"]
    assert column(at, "State") == ["v2"]


def test_the_address_opens_a_pair_and_nothing_of_it_is_markup() -> None:
    store = make_store(meta_note=NASTY)
    at = open_page(store, store.ids()[30])
    assert not at.exception
    assert [m.value for m in at.markdown] == [f"**Pair {store.ids()[30]}**, version 1"]
    assert any(code.value == f"{NASTY} 30" for code in at.code)
    for element in (*at.caption, *at.error, *at.warning, *at.info):
        assert "invalid" not in element.value
    boxes = [element.proto.body for element in at.get("html")]
    assert len(boxes) == 2
    for box in boxes:
        assert set(re.findall(r"<(/?\w+)", box.removeprefix(STYLE))) <= {"div", "/div", "mark", "/mark"}
    assert not open_page(store, "000000000000").exception
    assert "There is no pair '000000000000'" in errors(open_page(store, "000000000000"))[0]


@given(some.text(some.characters(blacklist_categories=["Cs"])), some.text(some.characters(blacklist_categories=["Cs"])))
def test_the_difference_keeps_every_character_and_marks_only_what_differs(chosen: str, rejected: str) -> None:
    boxes = [box.removeprefix(STYLE) for box in answers_html(chosen, rejected)]
    for box, text in zip(boxes, (chosen, rejected)):
        inner = re.fullmatch(r'<div class="answer \w+">(.*)</div>', box, re.DOTALL)
        assert inner
        shown = html.unescape(re.sub(r"</?mark>", "", inner[1]))
        assert re.sub(r"⟨U\+([0-9A-F]{4,6})⟩", lambda code: chr(int(code[1], 16)), shown) == text
    unmarked = [re.sub(r"<mark>.*?</mark>", "", box, flags=re.DOTALL).split(">", 1)[1] for box in boxes]
    message = [re.findall(r"[\w&;#]+", text) for text in unmarked]
    assert message[0] == message[1]


def test_long_answers_are_shown_whole() -> None:
    text = "word " * 20_000
    started = time.perf_counter()
    box, _ = answers_html(text, "other")
    assert text.strip() in box
    assert time.perf_counter() - started < 1


def test_swap_drop_undo_and_redo() -> None:
    store = make_store()
    id = store.ids()[3]
    at = press(open_page(store, id), "Swap")
    assert store.get(id).chosen == "bad answer 3"
    undo = next(button for button in at.button if button.label == "Undo")
    assert f"Take back: the swap of pair {id}" in undo.help
    press(at, "Drop")
    assert len(store) == 59
    assert "Restore" in labels(at)
    press(at, "Undo")
    assert len(store) == 60
    press(at, "Undo")
    assert store.get(id).rejected == "bad answer 3"
    press(press(at, "Redo"), "Redo")
    assert len(store) == 59
    press(at, "Restore")
    assert len(store) == 60


def test_undo_opens_the_pair_that_it_changed() -> None:
    store = make_store()
    store.swap(store.ids()[40])
    at = press(open_page(store, store.ids()[0]), "Undo")
    assert query(at, "pair") == store.ids()[40]


def test_edit_is_saved_by_pair_id() -> None:
    store = make_store()
    id = store.ids()[3]
    at = edit(open_page(store, id), "Chosen answer", "a better *answer*\n\nin two parts")
    assert store.get(id).chosen == "a better *answer*\n\nin two parts"
    assert store.get(id).version == 2
    edit(at, "Prompt", "another prompt")
    assert (store.get(id).prompt, store.get(id).version) == ("another prompt", 3)
    press(at, "Save")  # nothing was typed
    assert store.get(id).version == 3


def test_what_cannot_be_saved_is_refused_and_not_lost() -> None:
    store = make_store()
    id = store.ids()[3]
    at = edit(open_page(store, id), "Chosen answer", "bad answer 3")
    assert "are identical" in errors(at)[0]
    assert store.get(id).version == 1
    at = edit(open_page(store, id), "Chosen answer", "   ")
    assert "Chosen is empty" in errors(at)[0]


def test_a_change_made_elsewhere_is_not_overwritten_and_the_text_not_lost() -> None:
    store = make_store()
    id = store.ids()[3]
    at = open_page(store, id)
    store.edit(id, rejected="changed elsewhere")
    edit(at, "Chosen answer", "mine")
    assert "Not saved yet: this pair was changed by " in at.warning[0].value.replace("\\", "")
    assert not at.error
    assert store.get(id).version == 2
    assert typed(at) == ["mine", "changed elsewhere"]
    press(at, "Save")
    assert not at.error
    assert (store.get(id).chosen, store.get(id).rejected) == ("mine", "changed elsewhere")


def test_where_both_changed_the_same_text_one_of_them_is_chosen() -> None:
    store = make_store()
    id = store.ids()[3]
    at = open_page(store, id)
    store.edit(id, chosen="theirs", author="Ann")
    edit(at, "Chosen answer", "mine")
    assert "by Ann" in at.warning[0].value
    assert typed(at)[0] == "mine"
    choice = next(group for group in at.segmented_control if group.label == "Take for the chosen answer")
    choice.set_value("Theirs").run()
    assert typed(at)[0] == "theirs"
    press(at, "Discard my text")
    assert not at.warning
    assert store.get(id).version == 2
    at = open_page(store, id)
    store.edit(id, chosen="theirs again")
    edit(at, "Chosen answer", "mine again")
    press(at, "Save")
    assert store.get(id).chosen == "mine again"


def test_texts_keep_their_line_ends_and_what_was_not_touched() -> None:
    contents = {"user": "one\r\ntwo", "assistant": "half \ud800"}
    turns = [*({"role": role, "content": text} for role, text in contents.items()), {"role": "user", "content": "z"}]
    pair = Pair("a", turns, [{"role": "assistant", "content": "so"}], [{"role": "assistant", "content": "no"}])
    texts = text_editor.texts_of(pair)
    first, second, *_ = texts
    changed = text_editor.changes_of(pair, texts, {**texts, first: "one\n2"})
    assert changed == {"prompt": [{**turns[0], "content": "one\r\n2"}, *turns[1:]]}
    assert texts[second] == "half ?"


def typed(at: AppTest) -> list[str]:
    """The chosen and the rejected answer as they stand in their fields."""
    return [area.value for label in ("Chosen answer", "Rejected answer") for area in at.text_area if area.label == label]


def test_next_and_previous_walk_through_the_pages() -> None:
    store = make_store()
    ids = store.ids()
    at = press(open_page(store, ids[24]), "Next")
    assert (query(at, "pair"), query(at, "sheet")) == (ids[25], "2")
    press(at, "Previous")
    assert (query(at, "pair"), query(at, "sheet")) == (ids[24], "1")
    at = press(press(at, "Drop"), "Next")  # the place of the dropped one was taken by the next
    assert query(at, "pair") == ids[25]
    at = open_page(store, ids[59], sheet="3")
    assert next(b for b in at.button if b.label == "Next").disabled


def test_conversations_are_edited_turn_by_turn() -> None:
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "how?"}]
    rows = [
        {"prompt": turns, "chosen": [{"role": "assistant", "content": "so"}], "rejected": [{"role": "assistant", "content": "no"}]}
    ]
    store = open_pairs(rows, home=home.home() / "pairs", name="talk")
    (id,) = store.ids()
    edit(open_page(store, id), "Prompt, turn 3 (user)", "how exactly?")
    assert store.get(id).prompt == [*turns[:2], {"role": "user", "content": "how exactly?"}]


def test_halves_of_characters_break_no_page() -> None:
    rows = [{"prompt": "p \ud83d", "chosen": "c \udc00", "rejected": "r", "note": "\ud800"}]
    store = open_pairs(rows, home=home.home() / "pairs", name="odd")
    (id,) = store.ids()
    at = open_page(store, id)
    assert not at.exception
    edit(at, "Rejected answer", "better")
    assert store.get(id).prompt == "p \ud83d"  # what was not touched stays as it was


def test_the_history_shows_every_version() -> None:
    store = make_store()
    id = store.ids()[3]
    store.edit(id, chosen="second", author="Ada", reason="a typo")
    store.undo(author="Ada")
    at = open_page(store, id)
    labels = [e.label.replace("\\", "") for e in at.expander]
    assert labels[1].endswith(": a typo")
    assert [label.split(" on ")[0] for label in labels] == [
        "Version 3: an edit was undone by Ada",
        "Version 2: edited by Ada",
        "Version 1: as imported",
    ]


def test_an_unknown_set_and_a_broken_store_are_said_in_a_sentence() -> None:
    store = make_store()
    at = open_page(store)
    at.query_params["pairs"] = "nothing.sqlite"
    at = at.run()
    assert errors(at) == ["There is no pair set nothing.sqlite here; choose another one."]
    broken = home.home() / "pairs" / "broken.sqlite"
    broken.write_text("this is no database")
    at = AppTest.from_file(PAGE, default_timeout=60)
    at.query_params["pairs"] = "broken.sqlite"
    at.run()
    assert not at.exception
    assert "is not a store of pairs" in errors(at)[0]


def test_another_set_is_opened_from_its_first_page() -> None:
    one, other = make_store(name="one"), make_store(30, name="other")
    at = open_page(one, one.ids()[3], sheet="3")
    at.selectbox[0].select(other.path.name).run()
    assert (query(at, "pairs"), query(at, "pair"), query(at, "sheet")) == (other.path.name, None, None)
    assert [t.value for t in at.text] == ["30 pairs"]


def test_export_holds_the_edits() -> None:
    store = make_store(3)
    store.edit(store.ids()[0], chosen="edited")
    rows = [json.loads(line) for line in exported(store.all(), "jsonl").splitlines()]
    assert rows[0]["chosen"] == "edited"
    assert len(rows) == 3


def test_ten_thousand_pairs_stay_responsive() -> None:
    store = make_store(10_000)
    at = open_page(store, store.ids()[5000])
    started = time.perf_counter()
    at.run()
    assert time.perf_counter() - started < 1.0
    assert len(listed(at)["rows"]) == 25
    assert len(json.dumps(listed(at))) < 100_000


@pytest.fixture
def tiny_world(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The embedded world in its small edition, wherever the dashboard or the library asks for it."""
    open_tiny_worlds(monkeypatch)
    return None


def wait_for_world() -> PairStore:
    job = pair_sets.world_job()
    assert job.done.wait(120)
    assert job.error is None, job.error
    return job.result.store


def test_the_world_is_judged_in_words_as_it_stands_now(tiny_world: None) -> None:
    store = wait_for_world()
    at = AppTest.from_file(PAGE, default_timeout=60)
    at.query_params["pair"] = next(p.id for p in store.all() if not p.meta["noisy"])
    at.run()
    assert not at.exception
    assert any("The oracle agrees with the label" in t.value for t in at.text)
    press(at, "Swap")
    assert any("The oracle disagrees with the label" in t.value for t in at.text)
    assert sum("Oracle: " in t.value for t in at.text) == 2
    press(at, "Undo")
    assert "world (embedded)" in at.selectbox[0].options
    assert not any(label.startswith("world (") and label != "world (embedded)" for label in at.selectbox[0].options)


def test_the_hard_world_is_judged_by_its_own_oracle(tiny_world: None) -> None:
    at = AppTest.from_file(PAGE, default_timeout=60)
    at.query_params["pairs"] = "world-hard"
    job = pair_sets.world_job("world-hard")
    assert job.done.wait(120)
    at.query_params["pair"] = next(p.id for p in job.result.store.all() if "explained" in p.meta["why_chosen"])
    at.run()
    assert not at.exception
    judged = [t.value for t in at.text if t.value.startswith("Oracle: ")]
    assert len(judged) == 2
    assert "of at most +7" in judged[0]
    assert "explained" in judged[0]
    assert at.selectbox[0].value == "world-hard"
    assert len(at.selectbox[0].options) == len(set(at.selectbox[0].options))
    assert not any(label.startswith("world-hard (") and "embedded" not in label for label in at.selectbox[0].options)


def test_noise_is_explained(tiny_world: None) -> None:
    store = wait_for_world()
    noisy = next(p for p in store.all() if p.meta["noisy"])
    message = pair_view.label_agreement(store, noisy)
    assert "disagrees" in message
    assert "drawn at random and prefers the worse answer" in message


def test_a_world_that_cannot_be_built_is_said_and_can_be_tried_again(monkeypatch: pytest.MonkeyPatch, tiny_world: None) -> None:
    working = lab.world.opening.ensure

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("lab.world.opening.ensure", fail)
    at = AppTest.from_file(PAGE, default_timeout=60).run()
    assert "No space left on device" in errors(at)[0]
    monkeypatch.setattr("lab.world.opening.ensure", working)
    press(at, "Try again")
    wait_for_world()
    assert len(listed(at.run())["rows"]) == 25


def test_while_the_world_is_built_the_page_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    let_go = threading.Event()

    def build(*_: Any, progress: Any = None, **__: Any) -> None:
        progress("tuning the *model*", 0.4)
        let_go.wait(30)
        raise OSError("over")

    monkeypatch.setattr("lab.world.opening.ensure", build)
    at = AppTest.from_file(PAGE, default_timeout=60).run()
    try:
        assert not at.exception
        assert not at.get("bidi_component")
        (bar,) = at.get("progress")
        assert (bar.proto.value, bar.proto.text) == (40, "tuning the \\*model\\*")
    finally:
        let_go.set()


def ticked(at: AppTest, store: PairStore, ids: list[str]) -> AppTest:
    at.session_state["pairs.ticked"] = {str(store.path): ids}
    return at.run()


def test_ticked_pairs_are_changed_together_after_a_preview_and_one_undo_takes_it_back() -> None:
    store = make_store(30)
    ids = store.ids()[:27]
    at = ticked(open_page(store), store, ids)
    assert "27 ticked" in [t.value for t in at.text]
    press(at, "Change ...")
    assert not any("pairs change" in text.value for text in at.text)
    at.session_state["bulk.action"] = "Drop"  # AppTest draws no dialog again
    press(at, "Change ...")
    assert "27 of 27 pairs change." in [t.value for t in at.text]
    assert len(at.dataframe[0].value) == 8
    press(at, "Drop 27 pairs")
    assert len(store) == 3
    at = press(open_page(store), "Undo")
    assert len(store) == 30
    assert next(button for button in at.button if button.label == "Undo").disabled


def test_all_pairs_of_the_list_are_ticked_on_every_page() -> None:
    store = make_store(60)
    at = open_page(store)
    at.text_input(key="search").input("bad answer 1").run()
    at = ticked(at, store, [store.ids()[1]])
    press(at, "Tick all 11")
    assert at.session_state["pairs.ticked"][str(store.path)] == store.find("bad answer 1")
    press(at, "Untick")
    assert listed(at)["ticked"] == []


def test_the_list_is_sorted_and_filtered_by_terms_of_a_run() -> None:
    store = make_store(60)
    ids = store.ids()
    store.put_numbers("first/margin", {id: (-1) ** i * float(i) for i, id in enumerate(ids)})
    at = open_page(store, sort="first/margin", range="first/margin::0")
    assert [row["id"] for row in listed(at)["rows"]] == ids[59::-2][:25]
    assert column(at, number_heading("first/margin"))[:2] == ["-59", "-57"]
    assert [t.value for t in at.text] == ["31 pairs that match, of 60"]
    press(at, f"{number_label('first/margin')} up to 0")
    assert [t.value for t in at.text] == ["60 pairs"]
    assert not open_page(store, sort="unknown", range="nonsense").exception


def test_findings_are_filtered_and_their_remedy_is_one_press() -> None:
    store = make_store(30)
    ids = store.ids()
    store.put_findings([Finding(ids[3], "refusal_chosen", f"The chosen {NASTY} answer refuses.", remedy="swap")])
    at = open_page(store, ids[3], finding="refusal_chosen")
    assert [row["id"] for row in listed(at)["rows"]] == [ids[3]]
    assert any(w.value == plain(f"The chosen {NASTY} answer refuses.") for w in at.warning)
    press(at, "Swap the answers")
    assert store.get(ids[3]).chosen == "bad answer 3"
    assert store.log()[-1].reason == "check refusal_chosen"


def test_the_map_says_in_words_where_the_share_of_flipped_labels_is_uncertain() -> None:
    store = make_store(4)
    columns = {"confidence": 0.6, "variability": 0.1, "probability": 0.3, "probability_if_few": 0.02, "probability_if_many": 0.4}
    for name, value in columns.items():
        store.put_numbers(number_name(FLIPPED, name), dict.fromkeys(store.ids(), value))
    captions = [caption.value for caption in open_page(store, view="evidence").caption]
    assert any("uncertain, 2% to 40%" in caption and "Drag over the map" in caption for caption in captions)
    store.put_numbers(number_name(FLIPPED, "probability_if_many"), dict.fromkeys(store.ids(), 0.05))
    captions = [caption.value for caption in open_page(store, view="evidence").caption]
    assert any("2% to 5% of the labels are probably flipped" in caption for caption in captions)


def review(store: PairStore, **query: str) -> AppTest:
    at = open_page(store, view="review", **query)
    assert not at.exception
    return at


def test_a_review_goes_through_the_pairs_with_one_key_each() -> None:
    store = make_store(5)
    ids = store.ids()
    at = review(store)
    press(at, "Better `b`")
    press(at, "Worse `w`")
    press(at, "Drop `d`")
    assert store.get(ids[0]).tags == ("reviewed",)
    assert (store.get(ids[1]).chosen, store.get(ids[1]).tags) == ("bad answer 1", ("reviewed",))
    assert store.get(ids[2]).dropped
    (bar,) = at.get("progress")
    assert bar.proto.text.startswith("3 of 5 judged, about ")
    press(at, "Undo `u`")
    assert not store.get(ids[2]).dropped
    press(at, "Next `n`")
    press(at, "Next `n`")
    press(at, "Next `n`")
    assert any("End of the queue: 2 judged, 3 passed over" in element.value for element in at.success)
    again = review(store, unreviewed="yes")
    (bar,) = again.get("progress")
    assert bar.proto.text == "0 of 3 judged"


def test_a_review_that_meets_a_change_made_elsewhere_does_not_overwrite_it() -> None:
    store = make_store(3)
    at = review(store)
    store.edit(store.ids()[0], chosen="changed elsewhere")
    press(at, "Worse `w`")
    assert "changed elsewhere" in errors(at)[0]
    assert store.get(store.ids()[0]).chosen == "changed elsewhere"
    (bar,) = at.get("progress")
    assert bar.proto.text == "0 of 3 judged"


def test_a_review_of_nothing_says_what_to_do() -> None:
    assert any("nothing to review" in element.value for element in review(make_store(3), show="Dropped").info)


@pytest.mark.parametrize(
    ("remedy", "button"), [("swap", "Fix `f`"), ("drop", "Fix `f`"), ("edit", "Fix `f`"), ("none", "Drop `d`")]
)
def test_the_filter_stays_when_the_last_pair_of_a_finding_is_mended(remedy: Any, button: str) -> None:
    store = make_store(5)
    ids = store.ids()
    proposal = {"chosen": "mended"} if remedy == "edit" else {}
    store.put_findings([Finding(ids[1], "duplicate", "It repeats another.", remedy=remedy, proposal=proposal)])
    at = press(review(store, finding="duplicate"), button)
    version = store.version
    assert (query(at, "finding"), bar_text(at)) == ("duplicate", "1 of 1 judged")
    assert any("No pair with the finding Duplicate is left. Run the checks again" in element.value for element in at.success)
    assert not {"Drop `d`", "Fix `f`", "Worse `w`"} & set(labels(at))
    at = open_page(store, finding="duplicate")  # a link, or a reload
    assert [t.value for t in at.text] == [f"0 pairs that match, of {len(store)}"]
    assert "Finding Duplicate" in labels(at)
    press(at, "Remove the filter")
    assert [t.value for t in at.text] == [f"{len(store)} pairs"]
    assert store.version == version


def test_a_filter_by_tag_stays_when_no_pair_has_the_tag_any_more_but_not_in_another_set() -> None:
    store, other = make_store(5), make_store(30, name="other")
    store.edit(store.ids()[2], tags=["late"])
    at = open_page(store, tag="late")
    assert [row["id"] for row in listed(at)["rows"]] == [store.ids()[2]]
    store.drop(store.ids()[2])
    assert [t.value for t in at.run().text] == ["0 pairs that match, of 4"]
    at.selectbox[0].select(other.path.name).run()
    assert [t.value for t in at.text] == ["30 pairs"]
    at = open_page(store, tag="late")
    assert [t.value for t in press(at, "Tag late").text] == ["4 pairs"]


def test_a_fix_counts_as_reviewed_and_the_progress_tells_what_was_reviewed_before() -> None:
    store = make_store(4)
    ids = store.ids()
    for id, remedy in zip(ids, ("edit", "tag", "swap")):
        proposal = {"edit": {"chosen": "mended"}, "tag": {"tag": "long"}}.get(remedy, {})
        store.put_findings([Finding(id, f"check_{remedy}", "It is odd.", remedy=remedy, proposal=proposal)])
    at = review(store)
    for _ in range(3):
        press(at, "Fix `f`")
    assert [store.get(id).tags for id in ids] == [("reviewed",), ("long", "reviewed"), ("reviewed",), ()]
    assert store.get(ids[2]).chosen == "bad answer 2"
    press(at, "Fix `f`")
    assert any("The checks found nothing in this pair" in element.value for element in at.caption)
    press(press(press(at, "Undo `u`"), "Undo `u`"), "Undo `u`")  # one undo for each fix
    assert [store.get(id).tags for id in ids] == [()] * 4
    press(at, "Better `b`")
    assert bar_text(review(store)) == "0 of 4 judged, 1 reviewed before"
    store.put_findings([], checks=["check_edit", "check_tag", "check_swap"])
    press(review(store), "Fix `f`")


def test_the_other_pair_of_a_finding_is_shown_opened_and_searched_by_its_id() -> None:
    store = make_store(5)
    ids = store.ids()
    store.put_findings([Finding(ids[3], "duplicate", f"This pair repeats {ids[1]}.", ids[1], "drop")])
    store.put_findings([Finding(ids[4], "held_out_leak", "It is held out.", "of another set", "drop")])
    at = open_page(store, ids[3], finding="duplicate")
    assert column(at, "Finding") == [f"This pair repeats {ids[1]}."]
    assert f"The other pair, {ids[1]}" in [e.label for e in at.expander]
    assert any(code.value == f"{NASTY} 1" for code in at.code)
    assert query(press(at, "Open this pair"), "pair") == ids[1]
    at = press(review(store, finding="duplicate"), "Open this pair")
    assert (query(at, "pair"), query(at, "view")) == (ids[1], None)
    at = open_page(store, ids[4], finding="any")
    assert column(at, "Finding") == [
        f"Duplicate: This pair repeats {ids[1]}.",
        "Held-out pair in the training set: It is held out.",
    ]
    assert "Open this pair" not in labels(at)
    at.text_input(key="search").input(ids[2]).run()
    press(at, "Finding any")
    assert [row["id"] for row in listed(at)["rows"]] == [ids[2]]


def test_a_proposed_text_is_shown_before_it_is_taken() -> None:
    store = make_store(3)
    store.put_findings([Finding(store.ids()[0], "role_marker", "Cut.", remedy="edit", proposal={"chosen": f"proposed {NASTY}"})])
    for at in (open_page(store, store.ids()[0]), review(store)):
        assert {"Chosen, now", "Chosen, proposed"} <= {caption.value for caption in at.caption}
        boxes = [box.proto.body.removeprefix(STYLE) for box in at.get("html")]
        assert any("<mark>proposed</mark>" in box for box in boxes)
        assert not any("<script" in box for box in boxes)


def test_cancel_brings_the_stored_texts_back() -> None:
    store = make_store(3)
    at = open_page(store, store.ids()[0])
    next(area for area in at.text_area if area.label == "Rejected answer").input("typed")
    press(at, "Cancel")
    assert typed(at)[1] == "bad answer 0"
    at = press(press(review(store), "Edit `e`"), "Cancel")
    assert not at.text_area
    assert store.version == 0


def test_a_change_of_many_pairs_is_named_and_its_preview_begins_with_what_changes() -> None:
    store = make_store(3)
    at = ticked(open_page(store), store, store.ids())
    at.session_state["bulk.action"], at.session_state["bulk.tag"] = "Add tag", "checked"
    press(at, "Change ...")
    assert [line[:8] for line in at.dataframe[0].value["After"]] == ["#checked"] * 3
    press(at, "Add the tag to 3 pairs")
    assert store.tags() == {"checked": 3}


def test_changes_name_pairs_by_their_prompt_and_degrees_by_their_word() -> None:
    store = make_store(3)
    store.edit(store.ids()[0], degree=2 / 3)
    at = open_page(store, view="changes")
    assert "degree: none → clear" in [text.value for text in at.text]
    assert any(f"{plain(NASTY)} 0" in e.label for e in at.expander)


def bar_text(at: AppTest) -> str:
    (bar,) = at.get("progress")
    return bar.proto.text


@given(some.text())
def test_plain_never_ends_as_markup(text: str) -> None:
    escaped = plain(text)
    assert "\n" not in escaped
    written = escaped.replace(":blue[]", "")  # shows nothing; a text that has it itself is escaped
    assert not re.search(r"(?<!\\)(\\\\)*[`*_\[\]<>$:~|#!&^{}]", written)


def test_changes_show_authors_and_reasons_that_utf8_cannot_hold() -> None:
    store = make_store(3)
    store.edit(store.ids()[0], note="n", author="half \ud800", reason="\udfff too")
    store.snapshot("half \ud800", author="half \ud800")
    at = open_page(store, view="changes")
    (log,) = (table.value for table in at.dataframe)
    assert (log["Author"][0], log["Reason"][0]) == ("half ⟨U+D800⟩", "⟨U+DFFF⟩ too")


def test_a_request_for_answers_waits_until_the_model_is_open(
    store_run: Callable[..., lab.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    store_run("one")
    opened: list[int] = []
    monkeypatch.setattr(examining, "steps", lambda run: [0])
    monkeypatch.setattr(examining, "opened", lambda run, step: opened.append(step))
    at = open_page(store, view="add")
    at.text_area(key="answers.prompt").set_value("How?").run()
    press(at, "Answer twice")
    assert opened == [0]
    at.run()  # as when the model is open
    assert opened == [0, 0]


def test_a_pair_without_an_answer_is_refused_in_sight() -> None:
    store = make_store()
    at = open_page(store, view="add")
    at.text_area(key="add.prompt").set_value("How?")
    press(at, "Add the pair")
    assert "Chosen is empty; give an answer" in errors(at)[0]
    assert at.text_area(key="add.prompt").value == "How?"
    assert len(store) == 60


def field(widgets: Any, label: str) -> Any:
    """Return the last widget with a label: those of the opened pair come after the filters."""
    return [widget for widget in widgets if widget.label == label][-1]


def test_a_label_is_saved_beside_another_persons_change_and_never_lost() -> None:
    store = make_store(3)
    id = store.ids()[0]
    at = open_page(store, id)
    store.edit(id, rejected="by Ann", tags=["theirs"], author="Ann")
    field(at.text_input, "Note").input("my note").run()
    assert (store.get(id).note, store.get(id).rejected, store.get(id).tags) == ("my note", "by Ann", ("theirs",))
    store.edit(id, note="by Ann", tags=["theirs", "more"], author="Ann")
    field(at.text_input, "Note").input("my other note").run()
    assert "yours was 'my other note', now it is 'by Ann'" in errors(at)[0]
    assert store.get(id).note == "by Ann"
    at = open_page(store, id)
    store.edit(id, tags=["more"], author="Ann")
    field(at.multiselect, "Tags").set_value(["more", "theirs", "mine"]).run()
    assert store.get(id).tags == ("mine", "more")
    store.swap(id, author="Ann")
    field(at.segmented_control, "Preference degree").set_value("strong").run()
    assert "the degree of pair" in errors(at)[0].lower()
    assert store.get(id).degree is None


def test_a_remedy_for_texts_that_were_changed_meanwhile_is_refused() -> None:
    store = make_store(3)
    id = store.ids()[0]
    store.put_findings([Finding(id, "refusal_chosen", "It refuses.", remedy="swap")])
    at = open_page(store, id)
    store.edit(id, chosen="better", author="Ann")
    press(at, "Swap the answers")
    assert "by Ann" in errors(at)[0]
    assert store.get(id).chosen == "better"


def test_the_evidence_shows_length_bias_how_often_checks_are_right_and_exports_findings(tmp_path: Path) -> None:
    store = make_store(12)
    held_out = make_store(2, "apart")
    store.edit(store.ids()[3], rejected="-")
    at = open_page(store, view="evidence")
    at.selectbox(key="checks.held_out").set_value(held_out.path.name).run()
    press(at, "Run the checks")
    deadline = time.monotonic() + 60
    while not at.success and time.monotonic() < deadline:
        at.run()
    assert {"empty_answer", "held_out_leak"} <= store.finding_counts().keys()
    at.run()
    assert plain(store.length_bias().sentence) in [caption.value for caption in at.caption]
    (shown,) = (button for button in at.button if button.key == "check.empty_answer")
    assert "at least 97% of its findings are right" in shown.help
    assert [button.label for button in at.get("download_button")][-1] == "Export the findings"


def test_any_version_is_exported_and_compared() -> None:
    store = make_store(3)
    id = store.ids()[0]
    for text in ("one", "two"):
        store.edit(id, chosen=text)
    at = open_page(store, view="changes")
    for key, version in (("from", 1), ("to", 2)):
        field = at.selectbox(key=f"difference.{key}")
        field.set_value((changes.OTHER, 2)).run()
        at.number_input(key=f"difference.version.{key}").set_value(version).run()
    assert "1 changed" in [text.value for text in at.text]
    drawn = "".join(block.proto.body for block in at.get("html"))
    assert "one" in drawn
    assert "two" in drawn
    at.radio(key="export.what").set_value(OTHER).run()
    at.number_input(key="export.version").set_value(1).run()
    assert not at.exception


def test_a_merge_shows_what_differs_in_both_sets_and_a_split_can_drop(tmp_path: Path) -> None:
    store, other = make_store(3), make_store(3, "copy", more=1)
    id = store.ids()[0]
    assert id in other
    store.edit(id, chosen="here")
    other.edit(id, chosen="there", note="noted there")
    at = open_page(store, view="add")
    at.selectbox(key="merge.set").set_value(other.path.name).run()
    press(at, "Add them")
    assert any(f"Pair {id} differs in both" in e.label.replace("\\", "") for e in at.expander)
    assert "note: '' here, 'noted there' there" in [text.value for text in at.text]
    assert store.get(id).chosen == "here"
    at = open_page(store, view="add", search="here")
    at.text_input(key="split.name").input("part").run()
    at.toggle(key="split.drop").set_value(True).run()
    press(at, "Save as a set")
    assert (len(store), store.get(id).dropped) == (2, True)
    assert store.undo() is not None
    assert len(store) == 3


def test_a_set_is_labelled_by_name_number_of_pairs_and_day_and_equal_ones_by_their_source() -> None:
    def known(file: str, name: str, source: str, pairs: int | None = 54) -> KnownSet:
        return KnownSet(Path(file), file, name, source, pairs, datetime(2020, 11, 3, 12).timestamp())

    long = "/home/" + "x" * 60
    sets = [
        known("a-1.sqlite", "kitchen", "kitchen.csv"),
        known("b-2.sqlite", "kitchen", "new/kitchen.csv"),
        known("c-3.sqlite", "kitchen", "kitchen.csv", 1),
        known("d-4.sqlite", "team", f"{long}/1"),
        known("e-5.sqlite", "team", f"{long}/1"),
        known("f-6.sqlite", "broken", "", None),
    ]
    assert pair_sets.labels(sets) == {
        "a-1.sqlite": "kitchen (54 pairs, 2020-11-03, from kitchen.csv)",
        "b-2.sqlite": "kitchen (54 pairs, 2020-11-03, from new/kitchen.csv)",
        "c-3.sqlite": "kitchen (1 pair, 2020-11-03)",
        "d-4.sqlite": "team (54 pairs, 2020-11-03, file d-4.sqlite)",
        "e-5.sqlite": "team (54 pairs, 2020-11-03, file e-5.sqlite)",
        "f-6.sqlite": "broken (2020-11-03)",
    }


def test_the_label_of_the_opened_set_counts_its_pairs_after_each_change() -> None:
    store = make_store(30)
    at = open_page(store, store.ids()[0])
    day = f"{datetime.now():%-d %b}"
    for left in (29, 28):
        press(at, "Drop")
        assert f"({left} pairs, {day})" in next(o for o in at.selectbox[0].options if "embedded" not in o)
        at = open_page(store, store.ids()[0])


def test_the_name_of_a_download_says_what_is_in_it() -> None:
    assert file_name("kitchen", "csv", 18) == "kitchen-18-pairs.csv"
    assert file_name("my kitchen", "jsonl", 1) == "my-kitchen-1-pair.jsonl"
    assert file_name("kitchen", "csv", 54, version=7) == "kitchen-version-7.csv"
    assert file_name("kitchen", "csv", 54, version=0) == "kitchen-as-imported.csv"
