# ruff: noqa: E501
"""Import: every layout and format that data sets come in, mappings, reports, and export that comes back byte for byte."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lab.pairs import (
    ColumnMapping,
    Pair,
    PairsError,
    RefusedRows,
    answer_text,
    guess_mapping,
    import_pairs,
    pair_of,
    prompt_text,
    read_pairs,
    remember_mapping,
    remembered_mapping,
    write_pairs,
)

HERBS = ["basil", "thyme", "mint", "sage"]
PLAIN = [
    {"prompt": f"How often should I water the {herb}?", "chosen": f"Every {i + 1} days.", "rejected": f"Never mind the {herb}."}
    for i, herb in enumerate(HERBS)
]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "water", "parameters": {"type": "object", "properties": {"pot": {"type": "integer"}}}},
    }
]
CALL = {"type": "function", "function": {"name": "water", "arguments": {"pot": 0}}}


def user(text):
    return {"role": "user", "content": text}


def said(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def contents(pairs):
    return [pair.content for pair in pairs]


def one(row, **options):
    (pair,) = read_pairs([row], **options)
    return pair


# Layouts


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"system": "Be brief.", "question": "Which herb?"}, [system("Be brief."), user("Which herb?")]),
        ({"system": "", "question": "Which herb?"}, "Which herb?"),
        ({"Question": "Which herb?"}, "Which herb?"),
        ({"query": "Which herb?", "id": 3}, "Which herb?"),
        ({"instruction": "Name the herb.", "input": "Pot 0."}, "Name the herb.\nPot 0."),
        ({"instruction": "Name the herb.", "input": ""}, "Name the herb."),
        ({"instruction": "Name the herb.", "input": None, "system": "Be brief."}, [system("Be brief."), user("Name the herb.")]),
        ({"conversations": [{"from": "human", "value": "Which?"}]}, [user("Which?")]),
        ({"conversations": [{"from": "human", "value": "Which?"}], "system": "Brief."}, [system("Brief."), user("Which?")]),
        ({"messages": [user("Which?")]}, [user("Which?")]),
        ({"prompt": "Which?", "question": "not read"}, "Which?"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "ich?"}]}]},
            [user("Which?")],
        ),
        ({"prompt": user("Which?")}, [user("Which?")]),
        ({"system_prompt": "Brief.", "prompt": [user("Which?")]}, [system("Brief."), user("Which?")]),
    ],
)
def test_prompt_columns(row, prompt):
    pair = one({**row, "chosen": "Basil.", "rejected": "No idea."})
    assert pair.content == (prompt, "Basil.", "No idea.")


@pytest.mark.parametrize(
    "names",
    [("chosen_response", "rejected_response"), ("Chosen", "Rejected"), ("preferred", "dispreferred"), ("accepted", "rejected")],
)
def test_names_of_answers(names):
    assert one({"prompt": "Which?", names[0]: "Basil.", names[1]: "No."}).content == ("Which?", "Basil.", "No.")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": [user("Q")], "chosen": said("a"), "rejected": said("b")}, ([user("Q")], "a", "b")),
        ({"prompt": "Q", "chosen": [said("a")], "rejected": [said("b")]}, ([user("Q")], "a", "b")),
        ({"prompt": "Q", "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}, ([user("Q")], "a", "b")),
        ({"prompt": "Q", "chosen": [user("Q"), said("a")], "rejected": [user("Q"), said("b")]}, ([user("Q")], "a", "b")),
        (
            {"messages": [user("Q"), said("a")], "chosen": [user("Q"), said("a")], "rejected": [user("Q"), said("b")]},
            ([user("Q")], "a", "b"),
        ),
        ({"messages": [user("Q"), said("a")], "chosen": "a", "rejected": "b"}, ([user("Q")], "a", "b")),
        ({"prompt": "Tell me more now.", "chosen": "Tell me more now. Yes", "rejected": "Tell me more now. No"}, ("Tell me more now.", " Yes", " No")),
        (
            {"input": {"messages": [user("Q")], "tools": []}, "preferred_output": [said("a")], "non_preferred_output": [said("b")]},
            ([user("Q")], "a", "b"),
        ),
        (
            {"prompt": "[{'role': 'user', 'content': \"It's\"}]", "chosen": '[{"role": "assistant", "content": "a"}]', "rejected": "[{'role': 'assistant', 'content': 'b'}]"},
            ([user("It's")], "a", "b"),
        ),
        (  # as pandas writes an array of dicts, without commas
            {"prompt": "[{'role': 'user', 'content': 'Q'}\n {'role': 'assistant', 'content': 'A'}\n {'role': 'user', 'content': 'R'}]", "chosen": "a", "rejected": "b"},
            ([user("Q"), said("A"), user("R")], "a", "b"),
        ),
        (
            {"prompt": [user("Q")], "chosen": [said("a"), user("more"), said("c")], "rejected": [said("b")]},
            ([user("Q")], [said("a"), user("more"), said("c")], "b"),
        ),
        (
            {"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "function_call", "value": '{"name": "water", "arguments": {"pot": 0}}'}, "rejected": {"from": "gpt", "value": "b"}},
            ([user("Q")], [said(None, tool_calls=[CALL])], "b"),
        ),
    ],
)  # fmt: skip
def test_answers(row, expected):
    assert one(row).content == expected


def test_transcripts_become_conversations():
    start = "\n\nHuman: Water?\n\nAssistant: Which pot?\n\nHuman: Small.\n\nAssistant: Every few days, "
    pairs = read_pairs([{"chosen": f"{start}at noon.", "rejected": f"{start}at night."}])
    turns = [user("Water?"), said("Which pot?"), user("Small.")]
    assert contents(pairs) == [(turns, "Every few days, at noon.", "Every few days, at night.")]
    assert pairs.report.counts["answers begin alike"] == pairs.report.counts["transcripts read as conversations"] == 1
    kept = one({"chosen": f"{start}at noon.", "rejected": f"{start}at night."}, mapping={"layout": "text"})
    assert kept.chosen == " Every few days, at noon."
    assert kept.prompt.endswith("Small.\n\nAssistant:")


def test_a_short_common_beginning_is_never_taken_silently(caplog, tmp_path):
    row = {"frage": "Which herb stands there?", "chosen": "The herb is basil.", "rejected": "The herb is unknown."}
    with pytest.raises(PairsError, match=r"'The herb is'.* frage would not be read; .*--map prompt=frage"):
        read_pairs([row])
    assert one(row, mapping={"prompt": "frage"}).prompt == "Which herb stands there?"
    _, report = import_pairs([{"chosen": "The herb is basil.", "rejected": "The herb is unknown."}], home=tmp_path)
    assert "are the few words that both answers begin with" in report.warning()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "part of type 'image_url'"),
        ({"prompt": "[{'role': 'user', 'content': 'Wh"}, "conversation written as text"),
        ({"prompt": [user("Q")], "tools": "[not json"}, "tools is text that is not JSON"),
        ({"prompt": [system("a"), user("Q")], "system": "b"}, "differs from the conversation's own system message"),
        ({"prompt": [user("Q")], "chosen": [said("a", tool_calls=[{"x": 1}])], "rejected": [said("b")]}, "without a function name"),
        ({"prompt": [user("Q")], "chosen": [said("a", weight=1)], "rejected": [said("b")]}, "a number as 'weight'"),
        ({"prompt": [user("Q")], "chosen": [user("a")], "rejected": [said("b")]}, "begin and end with an assistant message"),
        ({"prompt": 3}, "prompt is a number"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_name(row, reason):
    with pytest.raises(RefusedRows) as caught:
        read_pairs([PLAIN[0], {"chosen": "a", "rejected": "b", **row}])
    assert reason in str(caught.value)
    assert [each.number for each in caught.value.report.refused] == [2]


def test_tools_calls_and_reasoning_are_kept():
    row = {"prompt": [user("Q")], "chosen": [said(None, tool_calls=[CALL])], "rejected": [said("No.")], "tools": json.dumps(TOOLS)}
    pair = one(row)
    assert (pair.tools, pair.chosen, pair.rejected) == (TOOLS, [said(None, tool_calls=[CALL])], "No.")
    assert one({**row, "tools": TOOLS}) == pair
    assert answer_text(pair.chosen) == '[call] water({"pot":0})'
    reasons = one(
        {"prompt": [user("Q")], "chosen": [said("a", reasoning_content="x")], "rejected": [said("a", reasoning_content="y")]}
    )
    assert answer_text(reasons.chosen) == "[reasoning] x\na"
    assert one({**PLAIN[0], "tools": TOOLS}).prompt == [user(PLAIN[0]["prompt"])]
    assert one({**PLAIN[0], "tools": "[]"}).tools is None


def test_scores_become_degrees():
    scored = [{**row, "score_chosen": "8.5", "score_rejected": low} for row, low in zip(PLAIN, (7.5, 8.5, 9, None))]
    pairs = read_pairs(scored)
    assert [pair.degree for pair in pairs] == [pytest.approx(math.tanh(0.5)), None, None, None]
    assert pairs[0].meta == {"score_chosen": "8.5", "score_rejected": 7.5}
    counts = pairs.report.counts
    assert counts["degrees from scores"] == counts["equal scores (no degree)"] == counts["rows without usable scores"] == 1
    assert one({**PLAIN[0], "margin": 2.0}).degree == pytest.approx(math.tanh(1))
    assert one({**PLAIN[0], "degree": 0.5, "weight": 2}).degree == 0.5


# Formats


def written(tmp_path, kind):
    """PLAIN in a file or object of a kind."""
    lines = "".join(json.dumps(row) + "\n" for row in PLAIN).encode()
    table = lambda mark: "\n".join(mark.join(row) for row in [PLAIN[0].keys(), *(row.values() for row in PLAIN)])  # noqa: E731
    files = {
        "a.jsonl": lines,
        "a.ndjson": lines,
        "a.json": lines,
        "list.json": json.dumps(PLAIN).encode(),
        "list.jsonl": json.dumps(PLAIN, indent=1).encode(),
        "pretty.json": json.dumps(PLAIN, indent=1).encode(),
        "objects.json": "\n".join(json.dumps(row, indent=2) for row in PLAIN).encode(),
        "objects.jsonl": "".join(json.dumps(row) for row in PLAIN).encode(),
        "key.json": json.dumps({"version": 1, "notes": ["x"], "data": PLAIN}, indent=1).encode(),
        "oneline.json": json.dumps({"rows": PLAIN}).encode(),
        "bom.jsonl": b"\xef\xbb\xbf" + lines,
        "a.jsonl.gz": gzip.compress(lines),
        "a.json.bz2": bz2.compress(lines),
        "a.jsonl.xz": lzma.compress(lines),
        "a.jsonl.zst": pa.compress(lines, "zstd", asbytes=True),
        "misnamed.jsonl": gzip.compress(lines),
        "a.csv": table(",").encode(),
        "semicolon.csv": table(";").encode(),
        "tabs.csv": table("\t").encode(),
        "a.tsv": table("\t").encode(),
        "bar.csv": table("|").encode(),
        "a.csv.gz": gzip.compress(table(";").encode()),
    }
    if kind in files:
        path = tmp_path / kind
        path.write_bytes(files[kind])
        return path
    if kind == "parquet":
        pd.DataFrame(PLAIN).to_parquet(tmp_path / "a.parquet")
        return tmp_path / "a.parquet"
    if kind == "frame":
        return pd.DataFrame([{**row, "score": np.nan} for row in PLAIN])
    if kind == "numpy":
        return [{key: np.str_(value) for key, value in row.items()} for row in PLAIN]
    if kind == "arrow":
        return pa.Table.from_pylist(PLAIN)
    if kind == "generator":
        return (row for row in PLAIN)
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(PLAIN)
    if kind == "formatted":
        return data.with_format("numpy")
    if kind == "folder":
        data.save_to_disk(str(tmp_path / "saved"))
        return tmp_path / "saved"
    datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(str(tmp_path / "both"))
    return tmp_path / "both"


KINDS = [
    "a.jsonl",
    "a.ndjson",
    "a.json",
    "list.json",
    "list.jsonl",
    "pretty.json",
    "objects.json",
    "objects.jsonl",
    "key.json",
    "oneline.json",
    "bom.jsonl",
    "a.jsonl.gz",
    "a.json.bz2",
    "a.jsonl.xz",
    "a.jsonl.zst",
    "misnamed.jsonl",
    "a.csv",
    "semicolon.csv",
    "tabs.csv",
    "a.tsv",
    "bar.csv",
    "a.csv.gz",
    "parquet",
    "frame",
    "numpy",
    "arrow",
    "generator",
    "formatted",
    "folder",
    "folders",
]


@pytest.mark.parametrize("kind", KINDS)
def test_formats(kind, tmp_path):
    pairs = read_pairs(written(tmp_path, kind))
    assert contents(pairs) == contents(read_pairs(PLAIN))
    assert pairs.report.format


def test_splits_and_keys(tmp_path):
    assert len(read_pairs(written(tmp_path, "folders"), split="test")) == 1
    path = tmp_path / "two.json"
    path.write_text(json.dumps({"dev": PLAIN[:1], "train": PLAIN[1:]}))
    assert (len(read_pairs(path)), len(read_pairs(path, split="dev"))) == (3, 1)
    with pytest.raises(PairsError, match="rows under the keys dev, train, but none under 'test'"):
        read_pairs(path, split="test")
    with pytest.raises(PairsError, match="A configuration belongs to a data set of the hub"):
        read_pairs(path, configuration="x")
    with pytest.raises(PairsError, match=r"owner/x \(split test_prefs, configuration big\) could not be loaded"):
        read_pairs("owner/x", split="test_prefs", configuration="big")


def test_conversations_in_arrays_and_parquet(tmp_path):
    rows = [
        {
            "prompt": [user("Q")],
            "chosen": [said(None, tool_calls=[CALL])],
            "rejected": [said("No.", reasoning_content="r")],
            "tools": TOOLS,
        },
        {"prompt": [user("R")], "chosen": [said("Yes.")], "rejected": [said("No.")], "tools": None},
    ]
    expected = contents(read_pairs(rows))
    frame = pd.DataFrame([{key: None if value is None else np.array(value) for key, value in row.items()} for row in rows])
    assert contents(read_pairs(frame)) == expected
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    pairs = read_pairs(tmp_path / "a.parquet")
    assert contents(pairs) == expected
    assert [pair.tools for pair in pairs][1] is None


# Mapping and report


def test_mapping_is_guessed_changed_checked_and_remembered(tmp_path):
    columns = ["id", "system", "question", "chosen", "rejected", "score_chosen", "score_rejected", "tools"]
    guess = guess_mapping(columns)
    assert guess == ColumnMapping(("question",), "chosen", "rejected", "system", "tools", "score_chosen", "score_rejected")
    remember_mapping(tmp_path, columns, guess)
    assert remembered_mapping(tmp_path, reversed(columns)) == guess
    assert remembered_mapping(tmp_path, columns[1:]) is None
    row = {"q": "Which?", "good": "Basil.", "bad": "No.", "prompt": "not this"}
    assert one(row, mapping={"prompt": "q", "chosen": "good", "rejected": "bad"}).content == ("Which?", "Basil.", "No.")
    with pytest.raises(PairsError, match=r"a column 'qq', but there are q, good, bad, prompt. Did you mean 'q'"):
        one(row, mapping={"prompt": "qq", "chosen": "good", "rejected": "bad"})
    with pytest.raises(PairsError, match=r"no entry 'promt'.* Did you mean 'prompt'"):
        one(row, mapping={"promt": "q"})
    assert one(PLAIN[0], mapping={"layout": "conversation"}).prompt == [user(PLAIN[0]["prompt"])]


def test_all_refused_rows_at_once(tmp_path):
    path = tmp_path / "bad.jsonl"
    rows = [{**row, "rejected": " "} if i % 2 else row for i, row in enumerate(PLAIN * 20)]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(RefusedRows, match=r"line 2: rejected is empty.* Line 20: .*\(30 more lines are wrong.\)") as caught:
        read_pairs(path)
    assert [each.number for each in caught.value.report.refused] == list(range(2, 81, 2))
    assert len(caught.value.report.refusals()) == 40
    store, report = import_pairs(path, on_error="skip", home=tmp_path)
    assert (len(store), report.read, report.refused_count) == (40, 40, 40)
    assert report.warning().startswith(f"40 lines of {path} left out")


def test_a_file_that_breaks_off_is_refused_or_read_up_to_there(tmp_path):
    whole = json.dumps(PLAIN, indent=1)
    (tmp_path / "cut.json").write_text(whole[: len(whole) // 2])
    packed = gzip.compress("".join(json.dumps(row) + "\n" for row in PLAIN * 500).encode())
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    for name in ("cut.json", "cut.jsonl.gz"):
        with pytest.raises(PairsError, match=f"{name}"):
            read_pairs(tmp_path / name)
        pairs = read_pairs(tmp_path / name, on_error="skip")
        assert pairs
        assert pairs.report.refused_count == 1


# Export


ODD = [
    Pair("first", "=1+1", "+a", "-b", meta={"n": "12", "s": "'x", "=f": "@x", "float": 1.0, "list": [1, {"a": 2}], "empty": "", "yes": True}),
    Pair("second-2", "'q", '[{"role": "user", "content": "text"}]', "b\r\nc\x00", weight=2.0, degree=0.5, tags=("a", "b"), note="=note"),
    Pair("3", "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a c", "a", meta={"system": "x", "weight": "odd", "degree": 7, "pair_id": "y", "big": 2**70}),
    Pair("4", "Say it again please", "Say it again please now", "Say it again please not", meta={"score_chosen": 3, "score_rejected": 1}),
]  # fmt: skip
TALK = [
    Pair("t", [user("Q")], [said(None, tool_calls=[CALL]), {"role": "tool", "name": "water", "content": "done"}, said("So.")], "No.", tools=TOOLS),
    Pair("u", [system("s"), user("=Q")], [said("a", reasoning_content="r")], "b", meta={"deep": {"x": [None, {}], "y": {}}}),
]  # fmt: skip


@pytest.mark.parametrize("pairs", [ODD, TALK, ODD + TALK], ids=["text", "talk", "both"])
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_an_export_comes_back_byte_for_byte(pairs, suffix, tmp_path):
    path, again = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    if suffix == "parquet" and pairs not in (ODD, TALK):
        pytest.skip("a Parquet column holds either text or messages, as TRL wants them")
    assert write_pairs(pairs, path) == len(pairs)
    back = read_pairs(path)
    write_pairs(back, again)
    assert path.read_bytes() == again.read_bytes()
    same = lambda pair: (pair.id, *pair.content, pair.tools, pair.weight, pair.degree, pair.tags, pair.note)  # noqa: E731
    assert list(map(same, back)) == list(map(same, pairs))
    assert [pair.meta for pair in back] == [pair.meta for pair in pairs]


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    write_pairs(ODD, tmp_path / "a.csv")
    frame = pd.read_csv(tmp_path / "a.csv", dtype=str, keep_default_na=False)
    cells = [*frame.columns, *frame.to_numpy().ravel()]
    assert not [cell for cell in cells if cell[:1] in tuple("=+@\t\r") or (cell[:1] == "-" and not cell[1:].isdigit())]


def test_pairs_come_back_from_readable_texts():
    pair = one({"prompt": [user("Q")], "chosen": [said("a"), user("b"), said("c")], "rejected": "d"} | {"rejected": [said("d")]})
    assert prompt_text(pair.prompt) == "user: Q"
    assert answer_text(pair.chosen) == "assistant: a\nuser: b\nassistant: c"
    assert pair_of(pair).content == pair.content
