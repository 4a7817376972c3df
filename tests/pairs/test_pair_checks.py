"""Checks of pair sets: what each one finds and leaves alone, planted defects, and findings as files."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.evidence import DEFECTS, plant
from lab.pairs import CHECKS, Pair, PairsError, check, findings, length_bias, open_pairs, pair_of, pairs_from_rows, write_findings
from lab.pairs.checks.answers import cut_off, refuses
from lab.pairs.checks.characters import suspects, without_invisible
from lab.pairs.checks.languages import language
from lab.pairs.checks.leaks import find_marker
from lab.pairs.checks.measured import MEASURED
from lab.pairs.checks.sides import similarity


def pair(id, prompt="How do I boil an egg in water?", chosen="Take ten minutes for it.", rejected="I do not know."):
    return Pair(id, prompt, chosen, rejected)


NO_TIME = "Ask your neighbour about it, I have no time for this."
STEPS = "Fill the pot with water, put the egg in it, and let it boil gently for ten minutes before you take it out again."


def test_checks_find_what_is_there():
    base = pair("base")
    chat = [{"role": "user", "content": base.prompt}]
    pairs = [
        base,
        replace(base, id="again"),
        replace(base, id="flipped", chosen=base.rejected, rejected=base.chosen),
        pair("case", chosen="Nine. Ten!", rejected="nine.  ten"),
        pair("near", prompt="And you?", chosen=STEPS, rejected=STEPS.replace("gently ", "")),
        pair("shuffled", chosen="one two three four five", rejected="five three one four two"),
        pair("leak", prompt=chat, chosen="How do I  boil an egg in WATER? Take a pot."),
        pair("turn", rejected="Sure.\n\nHuman: and now?"),
        pair("short", prompt="Sky?", chosen="Sky? Blue."),
        pair("dash", rejected="-"),
        pair("cut", chosen="Boil the water in a large pot first. Then put the egg into the"),
        pair("refused", chosen="I'm sorry, but I can't help with that."),
        pair("hidden", chosen="Take ten\u202e minutes for it all."),
        pair("german", chosen="Nimm das Ei aus dem Wasser und schäle es unter dem Wasserhahn.", rejected=STEPS),
        pair("almost", prompt="How do I boil an egg?", chosen=STEPS, rejected=NO_TIME),
        pair(
            "twice",
            prompt="How do I boil an egg?",
            chosen=f"{STEPS} Fine.",
            rejected=NO_TIME,
        ),
    ]
    held_out = [pair("held", prompt="Sky?")]
    table = check(pairs, held_out)
    assert list(table.columns) == ["pair_id", "check", "sentence", "other_id", "remedy", "confidence", "proposal"]
    assert set(zip(table["pair_id"], table["check"], table["other_id"], table["remedy"])) == {
        ("again", "duplicate", "base", "drop"),
        ("flipped", "contradiction", "base", "swap"),
        ("case", "identical_sides", "", "drop"),
        ("near", "near_identical", "", "drop"),
        ("leak", "prompt_leak", "", "edit"),
        ("turn", "role_marker", "", "edit"),
        ("dash", "empty_answer", "", "drop"),
        ("cut", "truncated_answer", "", "edit"),
        ("refused", "refusal_chosen", "", "tag"),
        ("hidden", "control_characters", "", "edit"),
        ("german", "mixed_languages", "", "drop"),
        ("twice", "near_duplicate", "almost", "drop"),
        ("short", "held_out_leak", "held", "drop"),
    }
    proposals = {row.pair_id: row.proposal for row in table.itertuples() if row.proposal}
    assert proposals == {
        "leak": {"chosen": "Take a pot."},
        "turn": {"rejected": "Sure."},
        "cut": {"chosen": "Boil the water in a large pot first."},
        "refused": {"tag": "refusal"},
        "hidden": {"chosen": "Take ten minutes for it all."},
    }
    assert len(check([])) == 0
    assert list(check([]).columns) == list(table.columns)


def test_only_the_checks_asked_for():
    pairs = [pair("a"), pair("b"), pair("dash", rejected="-")]
    assert {finding.check for finding in findings(pairs, names=["empty_answer"])} == {"empty_answer"}
    with pytest.raises(PairsError, match="no check 'empty'"):
        findings(pairs, names=["empty"])


def test_the_confidence_is_the_measured_precision_that_the_guide_shows():
    guide = (Path(__file__).parents[2] / "app/guide/pairs.md").read_text(encoding="utf-8")
    for name, measured in MEASURED.items():
        (cells,) = re.findall(rf"^\| `{name}` \|(.* \[.*)\|$", guide, re.M)
        lows = [float(low) for low in re.findall(r"\[([\d.]+),", cells)]
        assert measured.recall == min(lows[0], lows[2])
        assert measured.precision == min(lows[1], lows[3])
    (finding,) = findings([pair("dash", rejected="-")])
    assert finding.confidence == MEASURED["empty_answer"].precision


def test_contradictions_follow_the_majority():
    pairs = [pair("odd"), *(pair(str(i), chosen="I do not know.", rejected="Take ten minutes for it.") for i in range(2))]
    (finding,) = findings(pairs, names=["contradiction"])
    assert (finding.pair_id, finding.other_id, finding.remedy) == ("odd", "0", "swap")


@pytest.mark.parametrize(
    "answer",
    [
        "You need:\n- a bowl\n- two clean cloths\n- warm water and a little bit of soap",
        "Short one",
        "Look at the page of the library. It is here: https://docs.python.org/3/library/re.html",
        "Here it is, as you asked for it today. Good luck!\n```\nx = f(1,\n```",
        'He looked at me for a while. Then he said, "we will go home tomorrow."',
        "我建议你先休息一下。然后再试一次。",
        "Do you want me to go on with the third of the steps that you asked me about?",
    ],
)
def test_whole_answers_are_not_cut_off(answer):
    assert cut_off(answer) is None


@pytest.mark.parametrize(
    "answer",
    [
        "Take the pot and",
        "First fill it with water, then,",
        "Fill the pot with water. Then put the egg into it and wait until it is don",
        "1. Fill the pot.\n2. Put the egg in.\n3. Let it boil for ten min",
        "Run this:\n```python\nprint(1)",
        "Here are all of the steps that you need to follow:",
    ],
)
def test_cut_off_answers(answer):
    assert cut_off(answer)


def test_refusals():
    assert not any(
        map(refuses, ("I'm sorry to hear that.", "I can't believe it is this easy!", "You cannot help it.", "I won a prize."))
    )
    assert all(
        map(
            refuses, ("I cannot assist with this.", "Sorry, but I'm unable to do that.", "I won’t help you.", "I refuse to answer.")
        )
    )


def test_invisible_characters_that_are_needed():
    fine = "tab\tline\r\nfamily 👨‍👩‍👧 flag 🏴󠁧󠁢󠁳󠁣󠁴󠁿 می‌خواهم \u2067שלום\u2069"
    assert suspects(fine) == []
    assert without_invisible(fine) == fine
    assert suspects("a\0b\u200bc\u2066d\ud800\ufffd") == ["\0", "\u200b", "\u2066", "\ud800", "\ufffd"]
    assert without_invisible("a\0b\u200bc") == "abc"


@given(st.text("ab\0\u200b\u200d\u202e\ufffd👩\u05d0"))
def test_cleaned_texts_are_clean(text):
    assert not set(without_invisible(text)) & set("\0\u200b\u202e\ufffd")


def test_markers_in_code_and_in_requested_dialogues_are_fine():
    assert find_marker("Use this:\n```yaml\nUser: root\n```") is None
    assert find_marker("User: hi\nAssistant: hello", "Write a dialogue.") is None
    assert find_marker("Tell the user: it works.") is None
    assert find_marker("Fine.<|im_end|>", "Write a dialogue.")


def test_languages():
    assert language("ok") is None
    assert str(language(STEPS)) == "en"
    assert str(language("Nimm das Ei aus dem Wasser und schäle es unter dem Wasserhahn.")) == "de"
    assert language("然后用温水和少量肥皂把机器洗干净。").script == "CJK"
    translated = pair(
        "t", "Translate to German: take the egg out of the water.", "Nimm das Ei aus dem Wasser heraus, bitte.", STEPS
    )
    assert findings([translated], names=["mixed_languages"]) == []


@given(st.text(), st.text())
def test_similarity(one, other):
    assert similarity(one, one) == 1
    assert 0 <= similarity(one, other) == similarity(other, one) <= 1


def test_planted_defects_are_found():
    steps = "Take the {} lamp out of the cupboard. Clean it with a soft cloth and warm water. Put it back when it is dry."
    refused = "I have no idea about the lamps in room {}, so go and ask somebody else. They will know all of it better than I do."
    rows = [
        {
            "prompt": f"How do I clean the lamps in room {n * 7}?",
            "chosen": steps.format(f"{n}th"),
            "rejected": refused.format(n * 7),
        }
        for n in range(200)
    ]
    clean = [pair_of(row) for row in rows]
    planted = plant(clean, 4, seed=1, look_alikes=2)
    assert len({p.id for p in planted.pairs}) == len(planted.pairs)
    by_id = {p.id: p for p in planted.pairs}
    assert all(defect.pair_id in by_id for defect in (*planted.defects, *planted.look_alikes))
    assert all(defect.original is None or by_id[defect.pair_id].content != defect.original.content for defect in planted.defects)
    assert {kind: len(planted.ids(kind)) for kind in DEFECTS} == dict.fromkeys(DEFECTS, 4)
    assert planted.pairs == plant(clean, 4, seed=1, look_alikes=2).pairs
    assert planted.pairs != plant(clean, 4, seed=2, look_alikes=2).pairs
    hits = {(f.pair_id, f.check) for f in findings(planted.pairs, planted.held_out)}
    missed = [(defect.kind, defect.pair_id) for defect in planted.defects if (defect.pair_id, defect.kind) not in hits]
    assert [kind for kind, _ in missed if kind not in ("flipped", "refusal_chosen", "near_duplicate")] == []
    assert sum(kind == "near_duplicate" for kind, _ in missed) <= 1
    assert not {id for id, _ in hits} & {d.pair_id for d in planted.look_alikes}


def test_planting_refuses_what_it_cannot_do(rows):
    pairs = [pair_of(row) for row in rows]
    with pytest.raises(PairsError, match="no defect 'typo'"):
        plant(pairs, {"typo": 1})
    with pytest.raises(PairsError, match="No pair is left"):
        plant(pairs, {"flipped": 51})


def test_findings_as_files(tmp_path):
    found = findings([pair("a"), pair("=1+1", chosen="Take ten\ud800 minutes for it now.")])
    write_findings(tmp_path / "f.jsonl", found)
    assert [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()] == [f.as_row() for f in found]
    write_findings(tmp_path / "f.csv", found)
    with (tmp_path / "f.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["pair_id"] for row in table] == ["'=1+1"]
    with pytest.raises(PairsError, match="neither"):
        write_findings(tmp_path / "f.txt", found)
    with pytest.raises(PairsError, match="could not be written"):
        write_findings(tmp_path / "no" / "f.csv", found)


def test_every_check_explains_itself_in_one_sentence():
    assert set(CHECKS) == set(DEFECTS) - {"flipped"} == set(MEASURED)
    for each in CHECKS.values():
        assert each.explanation.count(". ") == 0
        assert each.explanation.endswith(".")


def test_length_bias():
    longer = [pair(str(i), chosen="a b c", rejected="a") for i in range(16)]
    bias = length_bias(longer)
    assert (bias.pairs, bias.chosen_words, bias.rejected_words, bias.chosen_longer, bias.accuracy, bias.z) == (16, 3, 1, 1, 1, 4)
    assert "The longer answer is chosen in 100% of the pairs whose answers differ in length" in bias.sentence
    shorter = [replace(p, chosen=p.rejected, rejected=p.chosen) for p in longer]
    assert length_bias(shorter).z == -4
    assert "The shorter answer is chosen in 100%" in length_bias(shorter).sentence
    assert '"the shorter wins" is right for 100% of all pairs, equal lengths counted half' in length_bias(shorter).sentence
    assert "No length bias" in length_bias(longer + shorter).sentence
    even = length_bias([pair("x", chosen="a b", rejected="c d")])
    assert even.chosen_longer == even.accuracy == 0.5
    with pytest.raises(ValueError, match="no pairs"):
        length_bias([])


FRAGMENTS = [
    "",
    "\ud800 \0 \u202e",
    "```",
    "```python\nx",
    "Human:",
    "<|im_end|>",
    "N/A",
    "I'm sorry, but I can't",
    "然后用温水,",
    "=1+1",
]
anything = st.text(max_size=60) | st.sampled_from(FRAGMENTS)
turn = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool"]), "content": anything | st.none()})
turns = st.lists(turn, min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(anything | turns, anything | turns, anything | turns), max_size=6))
def test_no_text_breaks_a_check(contents):
    pairs = [Pair(str(number), *content) for number, content in enumerate(contents)]
    for finding in findings(pairs, pairs[:2]):
        json.dumps(finding.as_row())
        assert finding.sentence.endswith(".")
        assert "\n" not in finding.sentence
        assert (finding.remedy in ("edit", "tag")) == bool(finding.proposal)
        if finding.remedy == "edit":
            pair = pairs[int(finding.pair_id)]
            edited = replace(pair, **finding.proposal)
            assert edited.content != pair.content
            assert edited.chosen != edited.rejected


def test_every_edit_that_is_proposed_settles_its_finding():
    texts = (
        "Boil it well and long. Then wait for the",
        "How do I boil an egg in water? Take a pot.",
        "Sure.\n\nHuman: and?",
        "Hi\u200b you.",
    )
    pairs = [pair(str(number), chosen=text) for number, text in enumerate(texts)]
    found = findings(pairs)
    assert len(found) == 4
    for finding in found:
        edited = replace(pairs[int(finding.pair_id)], **finding.proposal)
        assert findings([edited], names=[finding.check]) == []


def test_of_two_repeating_pairs_the_one_of_the_earlier_import_is_found(tmp_path):
    row = {"prompt": "How do I boil an egg?", "chosen": STEPS, "rejected": NO_TIME}
    swapped = {"prompt": "Sky?", "chosen": "Green.", "rejected": "Blue."}
    case = {"prompt": "Grass?", "chosen": "green.", "rejected": "Blue."}
    store = open_pairs([row, swapped, case], home=tmp_path)
    old = store.ids()
    corrected = [
        row | {"chosen": f"{STEPS} Fine."},
        {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."},
        case | {"chosen": "Green."},
    ]
    store.update_from(pairs_from_rows(corrected))
    new = store.ids()[3:]
    found = findings(store.all(), names=["near_duplicate", "contradiction", "duplicate"], imports=store.later_imports())
    assert {(each.check, each.pair_id, each.other_id, each.remedy) for each in found} == {
        (check, before, after, "drop") for check, before, after in zip(("near_duplicate", "contradiction", "duplicate"), old, new)
    }
    assert "which a later import added" in found[0].sentence
    store.update_from(pairs_from_rows([row | {"chosen": f"{STEPS} Well."}]))  # corrected again
    found = findings(store.all(), names=["near_duplicate"], imports=store.later_imports())
    assert store.ids()[-1] not in {each.pair_id for each in found}
