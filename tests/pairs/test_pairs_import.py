"""Import of rows in TRL's formats from every kind of source, valid and invalid."""

import csv
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from lab.pairs import Pair, PairQuery, PairsError, PairStore, open_pairs, pair_of, read_pairs, row_of, write_pairs

GOOD = {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}
USER, SYSTEM = {"role": "user", "content": "Sky?"}, {"role": "system", "content": "Be brief."}


def said(text):
    return {"role": "assistant", "content": text}


def content(pairs):
    return [(*pair.content, pair.meta) for pair in pairs]


def lines(*rows):
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)


def failure(source, **options):
    with pytest.raises(PairsError) as caught:
        read_pairs(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Formats


def test_explicit_and_meta():
    pair = pair_of({**GOOD, "score": 0.5, "tags": ["a", None], "none": None, "nan": float("nan"), "odd": object(), "id": 7})
    assert pair.content == ("Sky?", "Blue.", "Green.")
    assert pair.meta == {"score": 0.5, "tags": ["a", None], "id": 7}
    assert len(pair.id) == 12
    assert set(pair.id) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("The sky is blue.", "The sky is green.", ("The sky is", " blue.", " green.")),  # TRL's own example
        ("The sky is blue.", "The sky is black.", ("The sky is", " blue.", " black.")),  # TRL would cut at "bl"
        ("Q: sky?\nA:yes", "Q: sky?\nA:no", ("Q: sky?\nA:", "yes", "no")),
        ("Is it blue? Yes", "Is it blue? Yes, it is", ("Is it blue?", " Yes", " Yes, it is")),  # one begins the other
        ("Is it blue? Yes.", "Is it blue? Yes. Sure.", ("Is it blue?", " Yes.", " Yes. Sure.")),
        ("天空是蓝", "天空是绿", ("天空是", "蓝", "绿")),
        ("天空是蓝", "天空是蓝色", ("天空是", "蓝", "蓝色")),
        ("un cafe\u0301 noir", "un cafe bon", ("un", " cafe\u0301 noir", " cafe bon")),  # not between a letter and its accent
    ],
)
def test_implicit_plain(chosen, rejected, expected):
    assert pair_of({"chosen": chosen, "rejected": rejected}).content == expected
    assert pair_of({"chosen": rejected, "rejected": chosen}).content == (expected[0], expected[2], expected[1])


@given(st.text("ab .,é\n"), st.text("ab .,é\n"), st.text("ab .,é\n"))
def test_implicit_plain_loses_nothing(prompt, one, other):
    try:
        pair = pair_of({"chosen": prompt + one, "rejected": prompt + other})
    except PairsError:
        return
    assert pair.prompt + pair.chosen == prompt + one
    assert pair.prompt + pair.rejected == prompt + other
    assert pair.chosen.strip()
    assert pair.rejected.strip()
    assert pair.prompt.strip()
    if pair.prompt[-1].isalnum():
        assert not pair.chosen[0].isalnum()
        assert not pair.rejected[0].isalnum()


def test_conversational():
    explicit = {"prompt": [SYSTEM, USER], "chosen": [said("Blue.")], "rejected": [said("Green.")]}
    implicit = {"chosen": [SYSTEM, USER, said("Blue.")], "rejected": [SYSTEM, USER, said("Green.")]}
    expected = ([SYSTEM, USER], "Blue.", "Green.")
    assert pair_of(explicit).content == expected
    assert pair_of(implicit).content == expected
    assert pair_of({"prompt": "Sky?", **implicit}).content == expected  # as TRL: the conversations count
    assert pair_of({"prompt": [SYSTEM, USER], **implicit}).content == expected
    assert pair_of({"prompt": [SYSTEM, USER], "chosen": "Blue.", "rejected": "Green."}).content == expected
    with_nulls = {"prompt": [{**USER, "name": None}], "chosen": [said("Blue.")], "rejected": [said("Green.")]}
    assert pair_of(with_nulls).prompt == [USER]


def test_agrees_with_trl_where_words_are_whole():
    trl = pytest.importorskip("trl.data_utils")
    for row in (
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        {"chosen": [USER, said("Blue.")], "rejected": [USER, said("Green.")]},
    ):
        theirs, ours = trl.maybe_extract_prompt(row), row_of(pair_of(row))
        assert {key: ours[key] for key in theirs} == theirs


@pytest.mark.parametrize(
    ("row", "fragment"),
    [
        ([1], "a list"),
        ({"prompt": "a", "chosen": "b"}, "'rejected' is missing (found: prompt, chosen)"),
        ({**GOOD, "chosen": None}, "'chosen' is missing"),
        ({**GOOD, "chosen": ""}, "chosen is empty"),
        ({**GOOD, "rejected": " \n"}, "rejected is empty"),
        ({**GOOD, "rejected": "Blue."}, "identical"),
        ({"chosen": "same", "rejected": "same"}, "identical"),
        ({**GOOD, "prompt": ""}, "prompt is empty"),
        ({**GOOD, "prompt": 3}, "prompt is a number"),
        ({**GOOD, "chosen": 3, "rejected": 4}, "chosen is a number"),
        ({"chosen": 3, "rejected": 4}, "chosen is a number"),
        ({**GOOD, "chosen": [said("Blue.")]}, "chosen is a list but rejected is text"),
        ({"chosen": "blue", "rejected": "green"}, "no prompt"),
        (
            {"chosen": [USER, said("a"), USER], "rejected": [USER, said("b")]},
            "but it is: assistant, user",
        ),
        ({"chosen": [USER], "rejected": [USER, said("b")]}, "chosen is empty"),
        ({"prompt": [USER], "chosen": [USER], "rejected": [said("b")]}, "chosen is empty"),
        ({"prompt": [USER], "chosen": [{"role": "assistant"}], "rejected": [said("b")]}, "has no 'content'"),
        (
            {"prompt": [USER], "chosen": [{"role": "assistant", "content": [1]}], "rejected": [said("b")]},
            "a part that is a number",
        ),
        ({"prompt": ["hi"], "chosen": [said("a")], "rejected": [said("b")]}, "message 1 of prompt is text"),
    ],
)
def test_bad_row(row, fragment):
    message = failure([GOOD, row])
    assert "row 2: " in message
    assert fragment in message


# Sources


def test_ids_are_stable_and_unique(tmp_path):
    pairs = read_pairs([GOOD, {**GOOD, "x": 1}, {**GOOD, "prompt": "Sea?"}, GOOD])
    ids = [pair.id for pair in pairs]
    assert ids[1:] == [f"{ids[0]}-2", ids[2], f"{ids[0]}-3"]
    assert ids[0] == pair_of(GOOD).id == "0698808fcbce"
    assert len(set(ids)) == 4


def test_jsonl_with_everything_odd(tmp_path):
    path = tmp_path / "odd.jsonl"
    rows = [{**GOOD, "prompt": p} for p in ("a\u2028b\x85c", "\x00\x1f", "🙂 é", "x" * 300_000)]
    text = "\r\n".join(["", json.dumps(rows[0], ensure_ascii=False), "  ", *(json.dumps(r, ensure_ascii=False) for r in rows[1:])])
    surrogate = '{"prompt": "\\ud800 alone", "chosen": "\\udfff", "rejected": "b"}'
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\n" + surrogate.encode() + b"\n\n")
    assert [p.prompt for p in read_pairs(path)] == [*(row["prompt"] for row in rows), "\ud800 alone"]
    store = open_pairs(path, home=tmp_path)
    assert store.all() == read_pairs(path)
    assert store.count(PairQuery("\ud800 ALONE")) == 1


def test_bad_lines_are_counted(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(lines(GOOD, "", '{"prompt": ', GOOD, {"prompt": "a"}, "[1]"))
    message = failure(path)
    assert message.startswith(f"{path}, line 3: this is not valid JSON")
    assert " Line 5: the field 'chosen' is missing" in message
    assert " Line 6: this is a list" in message
    assert 'on_error="skip"' in message
    pairs = read_pairs(path, on_error="skip")
    assert (len(pairs), [each.number for each in pairs.report.refused]) == (2, [3, 5, 6])


def test_not_utf8_names_line_and_byte(tmp_path):
    heads = {"latin.jsonl": json.dumps(GOOD), "latin.json": "[", "latin.csv": "prompt,chosen,rejected"}
    for name, head in heads.items():
        (tmp_path / name).write_bytes(head.encode() + b'\n{"x": "caf\xe9"}')
        expected = f"{tmp_path / name}, line 2: byte 11 is not UTF-8; save the file as UTF-8."
        assert failure(tmp_path / name).startswith(expected)
    path = tmp_path / "wide.jsonl"
    path.write_bytes(json.dumps(GOOD).encode("utf-16"))
    assert "line 1: byte 1 is not UTF-8" in failure(path)


def test_files_without_pairs(tmp_path):
    for name in ("a.jsonl", "a.json", "a.csv", "a.parquet"):
        (tmp_path / name).write_bytes(b"")
        assert "is empty" in failure(tmp_path / name)
    (tmp_path / "blank.jsonl").write_bytes(b"\n \n")
    assert "contains no pairs" in failure(tmp_path / "blank.jsonl")
    (tmp_path / "blank.csv").write_bytes(b"\n\n")
    assert "is empty" in failure(tmp_path / "blank.csv")
    assert "contains no pairs" in failure([])
    assert "There is no file" in failure(tmp_path / "none.jsonl")
    assert "is a folder" in failure(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"x")
    assert "no known format" in failure(tmp_path / "a.txt")
    assert "cannot be read from a int" in failure(3)
    (tmp_path / "fake.parquet").write_bytes(b"not parquet at all")
    assert "not a readable Parquet file" in failure(tmp_path / "fake.parquet")


def test_json_list(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf \n" + json.dumps([GOOD, {**GOOD, "x": 1}], indent=1).encode())
    assert content(read_pairs(path)) == content(read_pairs([GOOD, {**GOOD, "x": 1}]))
    path.write_text(json.dumps([GOOD, 3]))
    assert f"{path}, row 2: this is a number" in failure(path)
    path.write_text("[\n{]")
    assert f"{path}, line 2: this is not valid JSON" in failure(path)
    path.write_text("[" * 100_000)
    assert "cannot be read" in failure(path) or "not valid JSON" in failure(path)
    path.write_text(lines(GOOD, GOOD))  # JSON Lines under another name
    assert len(read_pairs(path)) == 2


def test_csv(tmp_path):
    path = tmp_path / "a.csv"
    long = "y" * 200_000
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "chosen", "rejected", "score", "note", "code"])
        writer.writerow(["NA", 'a,"b"\r\nc', "123", "1.5", "", "007"])
        writer.writerow(["null", long, "None", "2", "true", "1e999"])
    one, two = read_pairs(path)
    assert (*one.content, one.meta) == ("NA", 'a,"b"\r\nc', "123", {"score": 1.5, "code": "007"})
    assert (*two.content, two.meta) == ("null", long, "None", {"score": 2, "note": "true", "code": "1e999"})
    path.write_text("prompt,chosen,rejected\na,b,c\na,b\n")
    assert "line 3: there are 2 cells but 3 columns; a delimiter (comma) is missing" in failure(path)
    path.write_text('prompt,chosen,rejected\na,b,"c\n')
    assert "not valid CSV" in failure(path)
    path.write_text("prompt,chosen,rejected\na,b,c\na,,c\n")
    assert "line 3: chosen is empty" in failure(path)


def test_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{**GOOD, "score": 1}, {**GOOD, "prompt": "Sea?", "score": 2}]
    one = datasets.Dataset.from_list(rows)
    assert content(read_pairs(one)) == content(read_pairs(rows))
    both = datasets.DatasetDict({"train": one, "test": one.select([1])})
    assert content(read_pairs(both, split="test")) == content(read_pairs(rows[1:]))
    assert failure(both, split="dev") == "The data set has no split 'dev'; choose one of train, test."
    assert open_pairs(one, home=tmp_path).path == open_pairs(rows, home=tmp_path).path


def test_hub_offline():
    message = failure("nobody-there/no-such-pairs-here")
    assert message.startswith("The data set nobody-there/no-such-pairs-here (split train) could not be loaded")


# Opening and exporting


def test_open_again_finds_the_edits(tmp_path):
    path = tmp_path / "my pairs.jsonl"
    path.write_text(lines(GOOD, {**GOOD, "prompt": "Sea?"}))
    home = tmp_path / "home"
    store = open_pairs(path, home=home)
    assert (store.name, store.source, store.path.parent) == ("my pairs", str(path), home)
    store.edit(store.ids()[0], chosen="Azure.")
    again = open_pairs(str(path), home=home)
    assert (again.path, again.version, again.all()) == (store.path, 1, store.all())
    assert open_pairs(store.path, home=home).all() == store.all()
    assert open_pairs(again, home=home) is again
    path.write_text(lines(GOOD))
    assert open_pairs(path, home=home, update=False).version == 0
    assert {p.name.split(".sqlite")[-1] for p in home.iterdir()} <= {"", "-wal", "-shm"}  # nothing unfinished


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
messages = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": texts}), min_size=1, max_size=3)
metas = st.dictionaries(st.sampled_from(["score", "tag"]), st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False))


def rows_of(prompts):
    answers = st.tuples(texts, texts).filter(lambda two: two[0] != two[1])
    build = lambda prompt, two, meta: {**meta, "prompt": prompt, "chosen": two[0], "rejected": two[1]}  # noqa: E731
    return st.lists(st.builds(build, prompts, answers, metas), min_size=1, max_size=4)


@settings(deadline=None)
@given(rows_of(texts | messages))
def test_jsonl_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("round") / "out.jsonl"
    pairs = read_pairs(rows)
    write_pairs(pairs, path)
    assert read_pairs(path) == pairs


@settings(deadline=None)
@given(rows_of(texts) | rows_of(messages))
def test_parquet_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("round") / "out.parquet"
    for row in rows:  # a column has one type
        row.update({key: float(row[key]) for key in ("score", "tag") if key in row})
    pairs = read_pairs(rows)
    write_pairs(pairs, path)
    assert read_pairs(path) == pairs


def test_lone_surrogates_leave_as_escapes(tmp_path):
    pair = pair_of({**GOOD, "chosen": "é\ud800x\n", "note": "\udfff"})
    write_pairs([pair], tmp_path / "out.jsonl")
    assert b"\\ud800" in (tmp_path / "out.jsonl").read_bytes()
    assert "é".encode() in (tmp_path / "out.jsonl").read_bytes()
    assert read_pairs(tmp_path / "out.jsonl") == [pair]


def test_failed_export_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.parquet"
    mixed = read_pairs([GOOD, {"prompt": [USER], "chosen": "a", "rejected": "b"}])
    write_pairs(mixed[:1], path)
    before = path.read_bytes()
    with pytest.raises(PairsError, match="do not fit into Parquet"):
        write_pairs(mixed, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(PairsError, match=r"ends in .jsonl, .csv or .parquet"):
        write_pairs(mixed, tmp_path / "out.xlsx")
    with pytest.raises(PairsError, match="could not be written"):
        write_pairs(mixed, tmp_path / "none" / "out.jsonl")


def test_trl_takes_the_export(tmp_path):
    datasets = pytest.importorskip("datasets")
    trl = pytest.importorskip("trl.data_utils")
    store = PairStore.create(
        tmp_path / "a.sqlite", read_pairs([{"prompt": [USER], "chosen": "a", "rejected": "b"}]), name="", source=""
    )
    assert store.export(tmp_path / "out.jsonl") == 1
    row = datasets.Dataset.from_list([json.loads((tmp_path / "out.jsonl").read_text())])[0]
    assert trl.is_conversational(row)
    assert row.pop("lab_pair_id") == store.ids()[0]
    assert row == {"prompt": [USER], "chosen": [said("a")], "rejected": [said("b")]}


def test_pairs_are_rows_too():
    pair = Pair("x", "p", "a", "b", version=5, dropped=True, meta={"k": 1})
    assert content([pair_of(pair)]) == content([pair])
    assert pair_of(pair).version == 1
