# ruff: noqa: E501
"""One row of each public preference data set in its own layout: read as its authors mean it, or refused with what to do."""

from __future__ import annotations

import csv
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lab.pairs import PairsError, RefusedRows, pair_of, read_pairs, write_pairs

USER = {"role": "user", "content": "Which?"}
MINT, SAGE = ({"role": "assistant", "content": text} for text in ("Mint.", "Sage."))
PKU = {"prompt": "Which?", "response_0": "Sage.", "response_1": "Mint.", "is_response_0_safe": True, "is_response_1_safe": True}
TLDR = {
    "info": {"id": "x", "post": "A long post.", "title": "Tea", "subreddit": "herbs"},
    "summaries": [{"text": "Sage.", "policy": "a", "note": None}, {"text": "Mint.", "policy": "b", "note": None}],
    "choice": 1,
    "worker": "w",
}
FEEDBACK = {
    "source": "x",
    "instruction": "Which?",
    "models": ["a", "b", "c"],
    "completions": [
        {"model": "a", "response": "Sage.", "overall_score": 3.0, "critique": "x" * 300, "annotations": {"help": {"Rating": "3"}}},
        {"model": "b", "response": "Mint.", "overall_score": 8.5, "critique": "good", "annotations": {}},
        {"model": "c", "response": "Thyme.", "overall_score": 6.0, "critique": "fair", "annotations": {}},
    ],
}
ARENA = {"question_id": "q", "model_a": "gpt", "model_b": "llama", "winner": "model_b", "judge": "j", "turn": 1}
SHP = {"post_id": "p", "history": "Which?", "human_ref_A": "Sage.", "human_ref_B": "Mint.", "score_A": 3, "score_B": 9}
WEBGPT = {"question": {"dataset": "eli5", "id": "1", "full_text": "Which?"}, "answer_0": "Sage.", "answer_1": "Mint."}
HELP = {"domain": "general", "language": "en", "context": [USER], "response1": "Sage.", "response2": "Mint."}

LAYOUTS: dict[str, tuple[dict[str, Any], Any]] = {
    "PKU-SafeRLHF": ({**PKU, "better_response_id": 1, "prompt_source": "x"}, "Which?"),
    "UltraFeedback": (FEEDBACK, "Which?"),
    "UltraFeedback binarized": (
        {"prompt": "Which?", "chosen": [USER, MINT], "rejected": [USER, SAGE], "messages": [USER, MINT], "score_chosen": 8.5},
        [USER],
    ),
    "Nectar": (
        {
            "prompt": "\n\nHuman: Which?\n\nAssistant: ",
            "answers": [{"answer": "Mint.", "model": "a", "rank": 1.0}, {"answer": "Sage.", "model": "b", "rank": 7.0}],
        },
        "\n\nHuman: Which?\n\nAssistant: ",
    ),
    "HelpSteer2 preference": ({"prompt": "Which?", "response_1": "Sage.", "response_2": "Mint.", "preference_strength": 2}, "Which?"),
    "HelpSteer3": ({**HELP, "overall_preference": 1, "individual_preference": [{"score": 1, "reasoning": "x"}]}, [USER]),
    "SHP": ({**SHP, "labels": 0, "score_ratio": 3.0}, "Which?"),
    "HH-RLHF": (
        {"chosen": "\n\nHuman: Which?\n\nAssistant: Mint.", "rejected": "\n\nHuman: Which?\n\nAssistant: Sage."},
        [USER],
    ),
    "WebGPT comparisons": ({**WEBGPT, "quotes_0": {}, "quotes_1": {}, "score_0": -0.5, "score_1": 0.5}, "Which?"),
    "Chatbot Arena": ({**ARENA, "conversation_a": [USER, SAGE], "conversation_b": [USER, MINT]}, [USER]),
    "LMArena 55k": (
        {
            "prompt": '["Which?"]',
            "response_a": '["Sage."]',
            "response_b": '["Mint."]',
            "winner_model_a": 0,
            "winner_model_b": 1,
            "winner_tie": 0,
        },
        "Which?",
    ),
    "orca dpo": ({"system": "", "question": "Which?", "chosen": "Mint.", "rejected": "Sage."}, "Which?"),
    "capybara dpo": (
        {"source": "x", "conversation": [{"input": "Which?", "output": "Mint."}], "prompt": "Which?", "chosen": [USER, MINT], "rejected": [USER, SAGE]},
        [USER],
    ),
    "Skywork": ({"chosen": [USER, MINT], "rejected": [USER, SAGE], "source": "x"}, [USER]),
    "stack exchange paired": ({"qid": 1, "question": "Which?", "response_j": "Mint.", "response_k": "Sage."}, "Which?"),
    "distilabel": ({"instruction": "Which?", "generations": ["Sage.", "Mint.", "Thyme."], "ratings": [1, 5, 3]}, "Which?"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_public_layouts_are_read(name):
    row, prompt = LAYOUTS[name]
    (pair,) = read_pairs([row])
    assert pair.content == (prompt, "Mint.", "Sage.")
    assert pair_of(row).content == pair.content


def test_the_other_answer_wins_with_the_other_label():
    exchanged = {
        "PKU-SafeRLHF": {"better_response_id": 0},
        "HelpSteer2 preference": {"preference_strength": -3},
        "HelpSteer3": {"overall_preference": -1},
        "SHP": {"labels": 1},
        "WebGPT comparisons": {"score_0": 0.5, "score_1": -0.5},
        "Chatbot Arena": {"winner": "model_a"},
        "LMArena 55k": {"winner_model_a": 1, "winner_model_b": 0},
    }
    for name, values in exchanged.items():
        assert read_pairs([LAYOUTS[name][0] | values])[0].content[1:] == ("Sage.", "Mint."), name


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("Chatbot Arena", {"winner": "tie (bothbad)"}, r"winner is 'tie \(bothbad\)': neither answer is better"),
        ("Chatbot Arena", {"winner": None}, "winner is empty: neither answer is better"),
        (
            "Chatbot Arena",
            {"winner": "model_c"},
            "winner is 'model_c', which names neither conversation_a nor conversation_b; write a or b",
        ),
        ("HelpSteer3", {"overall_preference": 0}, "overall_preference is 0: neither answer is better"),
        ("WebGPT comparisons", {"score_0": 0.0, "score_1": 0.0}, "score_0 and score_1 are equal: neither answer is better"),
        ("LMArena 55k", {"winner_model_b": 0, "winner_tie": 1}, "winner_model_a and winner_model_b are equal"),
        ("LMArena 55k", {"prompt": '["a", "b"]'}, "prompt is a list of 2 texts"),
        ("distilabel", {"ratings": [3, 3, 3]}, "no answer in generations is better than another .all have the same ratings"),
        ("UltraFeedback", {"completions": FEEDBACK["completions"][:1]}, "fewer than two have a value of overall_score"),
    ],
)
def test_ties_and_unknown_labels_are_refused_with_their_row(name, values, reason):
    row = LAYOUTS[name][0]
    with pytest.raises(RefusedRows, match=f"row 2: .*{reason}"):
        read_pairs([row, row | values])
    assert len(read_pairs([row, row | values], on_error="skip")) == 1


@pytest.mark.parametrize(
    ("row", "advice", "mapping"),
    [
        ({**PKU, "better_response_id": 1, "safer_response_id": 0}, "--map winner=better_response_id", {"winner": "better_response_id"}),
        (PKU, "--map winner=COLUMN.*--map chosen=response_0", {"chosen": "response_1", "rejected": "response_0"}),
        (TLDR, "--map prompt=PATH.*info.post", {"prompt": "info.post"}),
        ({"question": "Which?", "context": "In pot 0.", "chosen": "Mint.", "rejected": "Sage."}, r"prompt=context\+question", {"prompt": "context+question"}),
        ({"prompt": "Which?", "response": "Mint.", "helpfulness": 4}, "join the rows of the same prompt", None),
        ({"prompt": "Which?", "completion": "Mint.", "label": True}, "join the rows of the same prompt", None),
        ({"prompt": "Which?", "responses": ["Mint.", "Sage.", "Thyme."]}, "--map ranked=responses", None),
        ({"prompt": "Which?", "response_1": "Mint.", "response_2": "Sage.", "label": 0}, "label holds 0.*write 1 or 2", None),
        ({"prompt": "Which?", "response_a": "Mint.", "response_b": "Sage.", "winner": 1}, "winner holds 1.*write a or b", None),
    ],
)  # fmt: skip
def test_several_readings_are_asked_for(row, advice, mapping):
    for read in (lambda: read_pairs([row]), lambda: read_pairs([row], on_error="skip"), lambda: pair_of(row)):
        with pytest.raises(PairsError, match=advice):
            read()
    if mapping:
        (pair,) = read_pairs([row], mapping=mapping)
        assert pair.content[1:] == ("Mint.", "Sage.")
        assert pair.prompt in ("Which?", "A long post.", "In pot 0.\nWhich?")


def test_ranked_answers_give_one_pair_or_all():
    pairs = read_pairs([FEEDBACK])
    assert pairs.report.counts["answers of completions ordered by overall_score: best against worst"] == 1
    assert pairs[0].degree == pytest.approx(math.tanh(5.5 / 2))
    assert (pairs[0].meta["chosen_model"], pairs[0].meta["rejected_model"]) == ("b", "a")
    every = read_pairs([FEEDBACK], mapping={"pairing": "all"})
    assert [pair.content[1:] for pair in every] == [("Mint.", "Thyme."), ("Mint.", "Sage."), ("Thyme.", "Sage.")]
    with pytest.raises(PairsError, match="pairing of a mapping cannot be 'some'"):
        read_pairs([FEEDBACK], mapping={"pairing": "some"})


def test_answers_that_are_lists_in_json_stay(tmp_path):
    row = {"prompt": "Herbs as JSON?", "chosen": '["mint"]', "rejected": '["sage"]'}
    with pytest.raises(PairsError, match='layout "text"'):
        read_pairs([row])
    assert read_pairs([row], mapping={"layout": "text"})[0].chosen == '["mint"]'
    assert read_pairs([row | {"rejected": "None."}])[0].chosen == '["mint"]'
    assert read_pairs([{"prompt": ["Which?"], "chosen": ["Mint."], "rejected": ["Sage."]}])[0].content == (
        "Which?",
        "Mint.",
        "Sage.",
    )


# Files


ROWS = [{"prompt": f"Which {n}?", "chosen": "Mint.", "rejected": "Sage."} for n in range(3)]
WANTED = [tuple(row.values()) for row in ROWS]


@pytest.mark.parametrize("orient", ["columns", "index", "split", "table", "records"])
@pytest.mark.parametrize("indent", [None, 2])
def test_tables_as_pandas_writes_them(orient, indent, tmp_path):
    path = tmp_path / "a.json"
    pd.DataFrame(ROWS).to_json(path, orient=orient, indent=indent)
    assert [pair.content for pair in read_pairs(path)] == WANTED


@pytest.mark.parametrize("name", ["data", "rows", "train", "pairs"])
def test_one_list_of_rows_under_a_name(name, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({name: ROWS}))
    for source in (path, {name: ROWS}):
        assert [pair.content for pair in read_pairs(source)] == WANTED


def test_a_dict_of_columns_and_a_single_row(tmp_path):
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(columns))
    for source in (columns, path, {name: pd.Series(values).to_numpy() for name, values in columns.items()}):
        assert [pair.content for pair in read_pairs(source)] == WANTED
    with pytest.raises(PairsError, match=r"columns of different lengths .prompt: 3, chosen: 2, rejected: 3"):
        read_pairs(columns | {"chosen": ["a", "b"]})
    with pytest.raises(PairsError, match=r"This is one row; give a list of rows: \[row\]"):
        read_pairs(ROWS[0])
    talk = {"prompt": [USER], "chosen": [MINT], "rejected": [SAGE]}
    path.write_text(json.dumps(talk))
    assert read_pairs(path)[0].content == ([USER], "Mint.", "Sage.")


def test_the_line_by_which_excel_names_the_delimiter(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        file.write("sep=;\r\n")
        csv.writer(file, delimiter=";").writerows([ROWS[0].keys(), *(row.values() for row in ROWS), ["one cell"]])
    with pytest.raises(RefusedRows, match="line 6: there are 1 cells"):
        read_pairs(path)
    assert [pair.content for pair in read_pairs(path, on_error="skip")] == WANTED


def zipped(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_a_zip_holds_one_file(tmp_path):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    one = zipped(tmp_path / "a.zip", **{"README.md": "x", "in/a.jsonl": lines, "__MACOSX/in/._a.jsonl": "x"})
    pairs = read_pairs(one)
    assert ([pair.content for pair in pairs], pairs.report.format) == (WANTED, "JSON Lines")
    with pytest.raises(PairsError, match=r"holds several files \(a.jsonl, b.csv\); unpack it and give one"):
        read_pairs(zipped(tmp_path / "b.zip", **{"a.jsonl": lines, "b.csv": "x"}))
    with pytest.raises(PairsError, match=r"holds no file of pairs \(a.txt\)"):
        read_pairs(zipped(tmp_path / "c.zip", **{"a.txt": lines}))
    write_pairs(pairs, tmp_path / "a.parquet")
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.write(tmp_path / "a.parquet", "a.parquet")
    with pytest.raises(PairsError, match="unpack it"):
        read_pairs(tmp_path / "d.zip")
    damaged = bytearray(one.read_bytes())
    damaged[damaged.index(b"in/a.jsonl") + 20] ^= 255
    (tmp_path / "e.zip").write_bytes(damaged)
    with pytest.raises(PairsError, match=r"e\.zip"):
        read_pairs(tmp_path / "e.zip")
