"""Rows that could be read as something else than they are: an empty answer, a missing prompt, a label, a key that stands twice."""

from __future__ import annotations

import bz2
import decimal
import gzip
import json
import lzma
import os

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lab.pairs import PairsError, RefusedRows, read_pairs, write_pairs

GOOD = {"prompt": "How often should I water it?", "chosen": "I think daily.", "rejected": "I think never."}


def of(**row):
    (pair,) = read_pairs([row])
    return pair.content


@pytest.mark.parametrize(
    ("question", "answers_after"),
    [
        ("Human: What is it?\n", "Assistant:"),
        ("\r\n\r\nHuman: What is it?\r\n\r\n", "Assistant:"),
        ("User: What is it?\n\n", "Assistant:"),
        ("\n\nhuman: What is it?\n\n", "assistant:"),
        ("\n\nSystem: Be brief.\n\nHuman: What is it?\n\n", "Assistant:"),
        ("USER: What is it? ", "ASSISTANT:"),
        ("Q: What is it?\n", "A:"),
        ("[INST] What is it? ", "[/INST]"),
        ("<|im_start|>user\nWhat is it?<|im_end|>\n", "<|im_start|>assistant"),
        ("### Instruction:\nWhat is it?\n\n", "### Response:"),
    ],
)
def test_an_empty_answer_is_never_its_marker(question, answers_after):
    start = question + answers_after
    with pytest.raises(PairsError, match="rejected is empty"):
        of(chosen=f"{start} Mint.", rejected=start)
    _, chosen, rejected = of(chosen=f"{start} Mint.", rejected=f"{start} Sage.")
    assert (chosen.strip(), rejected.strip()) == ("Mint.", "Sage.")


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_row_without_the_prompt_that_others_have_is_refused(missing):
    rows = [{**GOOD, "chosen": f"I think {n}."} for n in range(60)] + [{**GOOD, "prompt": missing}]
    with pytest.raises(PairsError, match="row 61: there is no prompt in prompt"):
        read_pairs(rows)
    with pytest.raises(PairsError, match="row 2: there is no prompt in prompt"):
        read_pairs([GOOD, {"question": "And now?", "chosen": "I think a.", "rejected": "I think b."}])


def test_transcripts_beside_a_prompt_are_conversations():
    start = "\n\nHuman: What is it now?\n\nAssistant:"
    expected = ([{"role": "user", "content": "What is it now?"}], "Mint.", "Sage.")
    assert of(prompt="What is it now?", chosen=f"{start} Mint.", rejected=f"{start} Sage.") == expected
    assert of(prompt=start, chosen=f"{start} Mint.", rejected=f"{start} Sage.") == (start, " Mint.", " Sage.")


@pytest.mark.parametrize(("labels", "column"), [(("A", "B"), "response_a"), (("response_0", "response_1"), "response_0")])
def test_labels_of_columns_are_no_answers(labels, column):
    row = {"prompt": "Which?", "chosen": labels[0], "rejected": labels[1], column: "Mint.", "other": "Sage."}
    with pytest.raises(PairsError, match=column):
        read_pairs([row])
    assert read_pairs([row], mapping={"layout": "text"})[0].chosen == labels[0]
    row.pop(column)
    assert read_pairs([row])[0].chosen == labels[0]


def test_earlier_turns_of_alpaca_come_before_the_prompt():
    row = {"instruction": "And then?", "input": "", "history": [["Hi", "Hello"]], "chosen": "Rest.", "rejected": "Run."}
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "And then?")]
    expected = [{"role": role, "content": content} for role, content in turns]
    assert of(**row)[0] == of(**{**row, "history": json.dumps(row["history"])})[0] == expected
    assert of(**{**row, "history": []})[0] == "And then?"
    with pytest.raises(PairsError, match="history"):
        of(**{**row, "history": ["Hi"]})


@pytest.mark.parametrize("role", ["Assistant", "AI", "ASSISTANT"])
def test_roles_are_known_in_any_case(role):
    prompt = [{"role": "User", "content": "Hi"}]
    chosen, rejected = ([{"role": role, "content": text}] for text in "ab")
    assert of(prompt=prompt, chosen=chosen, rejected=rejected) == ([{"role": "user", "content": "Hi"}], "a", "b")


@pytest.mark.parametrize(
    "written", ["[{'name': 'Bob', 'role': 'assistant', 'content': '%s'}]", "array([{'from': 'gpt', 'value': '%s'}], dtype=object)"]
)
def test_conversations_written_as_text_with_other_beginnings(written):
    _, chosen, rejected = of(prompt="Hi", chosen=written % "a", rejected=written % "b")
    text = [side if isinstance(side, str) else side[0]["content"] for side in (chosen, rejected)]
    assert text == ["a", "b"]
    assert of(prompt="Give JSON", chosen='{"answer": 1}', rejected="[{'answer': 2}]")[1:] == ('{"answer": 1}', "[{'answer': 2}]")


def test_a_name_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text('{"prompt": "a", "chosen": "first", "chosen": "second", "rejected": "r"}\n')
    with pytest.raises(PairsError, match="line 1: the key 'chosen' stands twice"):
        read_pairs(path)
    listed = tmp_path / "twice.json"
    listed.write_text('[\n{"prompt": "a", "chosen": "first", "chosen": "second", "rejected": "r"}\n]')
    with pytest.raises(PairsError, match="line 2: the key 'chosen' stands twice"):
        read_pairs(listed)
    frame = pd.DataFrame([["a", "b", "c", "d"]], columns=["prompt", "chosen", "rejected", "chosen"])
    table = pa.table([["a"], ["b"], ["c"], ["d"]], names=list(frame.columns))
    pq.write_table(table, tmp_path / "twice.parquet")
    for source in (frame, table, tmp_path / "twice.parquet"):
        with pytest.raises(PairsError, match="several columns called 'chosen'"):
            read_pairs(source)


def test_a_split_of_a_source_without_splits_is_refused(tmp_path):
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(GOOD))
    data = datasets.Dataset.from_list([GOOD])
    for source in (path, data):
        with pytest.raises(PairsError, match="no splits, so there is no 'test'"):
            read_pairs(source, split="test")
    named = datasets.Dataset.from_list([GOOD], split="test")
    assert len(read_pairs(named, split="test")) == len(read_pairs(named)) == 1


def test_weights_and_degrees_that_cannot_be_used_are_counted():
    pairs = read_pairs([{**GOOD, "degree": "strong", "weight": -2}])
    assert (pairs[0].weight, pairs[0].degree) == (1.0, None)
    assert pairs.report.counts["values of weight that are no weight and only kept"] == 1
    assert pairs.report.counts["values of degree that are no degree and only kept"] == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_null_arguments_of_tools_come_back(tmp_path, suffix):
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": 1, "b": None}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"default": None}}}
    chosen = [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "3"}]
    chosen.append({"role": "assistant", "content": "3"})
    pairs = read_pairs([{"prompt": "Hi", "chosen": chosen, "rejected": [{"role": "assistant", "content": "b"}], "tools": [tool]}])
    write_pairs(pairs, tmp_path / f"one{suffix}")
    back = read_pairs(tmp_path / f"one{suffix}")
    assert [(*pair.content, pair.tools) for pair in back] == [(*pair.content, pair.tools) for pair in pairs]
    assert back[0].chosen[0]["tool_calls"] == [call]
    assert back[0].tools == [tool]
    write_pairs(back, tmp_path / f"two{suffix}")
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


@pytest.mark.parametrize("label", [-1, "-1", "not a", "worse: b", "loser_a", "m1 or m2"])
def test_a_label_that_may_mean_the_opposite_names_no_answer(label):
    ending = ("1", "2") if "1" in str(label) else ("a", "b")
    row = {"prompt": "p", f"response_{ending[0]}": "x", f"response_{ending[1]}": "y", "verdict": label}
    with pytest.raises(RefusedRows, match="names neither"):
        read_pairs([row])


def test_a_label_names_an_answer_by_its_model_before_its_number():
    row = {"prompt": "p", "response_1": "x", "response_2": "y", "model_1": "m2", "model_2": "m1"}
    for winner, chosen in (("m1", "y"), ("m2", "x")):
        assert read_pairs([row | {"winner": winner}])[0].chosen == chosen


def test_answers_named_as_a_ranked_list_are_read_as_the_refusal_advises():
    row = {"prompt": "p", "answers": [{"text": "x", "votes": 2}, {"text": "y", "votes": 5}, {"text": "y", "votes": 7}]}
    with pytest.raises(PairsError, match="--map ranked=answers --map rank_by=COLUMN"):
        read_pairs([row])
    with pytest.raises(PairsError, match="Nothing says how the answers in answers are ordered"):
        read_pairs([row], mapping={"ranked": "answers"})
    mapping = {"ranked": "answers", "rank_by": "votes"}
    assert [pair.chosen for pair in read_pairs([row], mapping=mapping)] == ["y"]
    every = read_pairs([row], mapping=mapping | {"pairing": "all"})
    assert [(pair.chosen, pair.rejected) for pair in every] == [("y", "x"), ("y", "x")]
    assert every.report.counts["pairs of identical answers of answers left out"] == 1


@pytest.mark.parametrize("number", [decimal.Decimal("0.5"), np.float32(0.5), np.array(0.5)])
def test_numbers_of_every_library_are_read(number):
    assert read_pairs([{**GOOD, "degree": number, "weight": number}])[0].degree == 0.5
    scored = read_pairs([{**GOOD, "score_chosen": number, "score_rejected": 0}])[0]
    assert scored.degree == pytest.approx(np.tanh(0.25))


def test_words_for_a_missing_value_are_counted_and_said():
    report = read_pairs([GOOD, {**GOOD, "chosen": "nan"}, {**GOOD, "prompt": "NA", "rejected": " None "}]).report
    assert '3 texts that are only "NA", "nan", "None" or another word for a missing value in list' in report.warning()
    assert not read_pairs([GOOD]).report.warning()


@pytest.mark.parametrize("mapping", [3, "prompt", ["prompt"], {"prompt": 3}, {"prompt": [1]}, {"chosen": ["a", "b"]}, {3: "x"}])
def test_a_mapping_of_another_type_is_refused(mapping):
    with pytest.raises(PairsError):
        read_pairs([GOOD], mapping=mapping)


def test_a_column_that_python_cannot_hold_is_named(tmp_path):
    columns = {name: pa.array([text]) for name, text in GOOD.items()} | {"when": pa.array([2**62], pa.timestamp("us"))}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(PairsError, match="the column 'when' holds values of type timestamp"):
        read_pairs(tmp_path / "a.parquet")


def test_columns_written_as_json_in_parquet_may_be_too_deep(tmp_path):
    table = pa.table({**{name: [text] for name, text in GOOD.items()}, "x": ["[" * 100_000]})
    pq.write_table(table.replace_schema_metadata({b"preference_lab_json_columns": b"x"}), tmp_path / "a.parquet")
    with pytest.raises(PairsError, match="lists or objects inside one another"):
        read_pairs(tmp_path / "a.parquet")


def test_a_message_names_some_of_many_columns():
    with pytest.raises(RefusedRows) as refused:
        read_pairs([{"prompt": "p", **{f"c{number}": 1 for number in range(5000)}}])
    assert "and 4,971 more" in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_csv_with_spaces_behind_its_delimiters(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt, chosen, rejected\n"p, q", "a, b", "c"\n')
    assert read_pairs(path)[0].content == ("p, q", "a, b", "c")
    path.write_text('\n\nprompt,chosen,rejected\n"p", "a",c,d\n')
    with pytest.raises(PairsError, match="line 4"):
        read_pairs(path)
    path.write_bytes(b"prompt,chosen,rejected\rp,a,b\r")
    with pytest.raises(PairsError, match="carriage return alone"):
        read_pairs(path)


def test_what_is_no_file_is_said(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(PairsError, match="neither a file nor a folder"):
        read_pairs(tmp_path / "pipe.jsonl")
    with pytest.raises(PairsError, match="path of the pairs is empty"):
        read_pairs("")
    with pytest.raises(PairsError, match="Series"):
        read_pairs(pd.Series(["a"]))
    with pytest.raises(RefusedRows, match="message 1 of chosen has no 'role'"):
        read_pairs([{"prompt": "p", "chosen": {"text": "a"}, "rejected": {"text": "b"}}])


@pytest.mark.parametrize(("pack", "suffix"), [(bz2.compress, "bz2"), (lzma.compress, "xz"), (gzip.compress, "gz")])
def test_a_damaged_later_part_of_a_packed_file_is_refused(pack, suffix, tmp_path):
    path = tmp_path / f"a.jsonl.{suffix}"
    one, other = (pack(json.dumps(GOOD | {"prompt": prompt}).encode() + b"\n") for prompt in ("p", "q"))
    path.write_bytes(one + b"\0" * 4 + other + b"\0" * 4 if suffix != "bz2" else one + other)
    assert [pair.prompt for pair in read_pairs(path)] == ["p", "q"]
    for damaged in (one + b"?" + other[1:], one + other[:-6], one[:-6], one + b"junk"):
        path.write_bytes(damaged)
        with pytest.raises(PairsError, match="cannot be read to its end"):
            read_pairs(path)


def test_columns_that_differ_in_case_alone_are_asked_for():
    row = {"prompt": "p", "Chosen": "x", "chosen": "y", "rejected": "z"}
    with pytest.raises(PairsError, match="'Chosen' and 'chosen' have the same name but for case"):
        read_pairs([row])
    assert read_pairs([row], mapping={"chosen": "chosen"})[0].chosen == "y"
