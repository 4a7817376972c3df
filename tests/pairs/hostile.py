# ruff: noqa: E501
"""Hostile files and texts: what a person, a broken program or an attacker may give as pairs."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

GOOD = {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}
LINE = json.dumps(GOOD).encode()

TEXTS = {
    "html": "<b>bold</b><img src=x onerror='document.title=\"owned\"'><iframe src='http://x.invalid'></iframe>",
    "script": "<script>document.title='owned'</script>",
    "svg": "<svg onload=\"document.title='owned'\"><circle r=9></svg>",
    "style": "<style>body{display:none}</style>",
    "link": "[click](javascript:document.title='owned') <a href='javascript:1'>x</a>",
    "markdown image": "![x](http://x.invalid/pixel.png) ![](data:image/png;base64,AAAA)",
    "markdown": "# Heading\n\n- list\n\n> quote\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx\n```",
    "latex": r"$\frac{1}{0}$ $$\href{javascript:1}{x}$$ \[x\] \(y\)",
    "directives": ":red[red] :material/skull: :blue-background[x] :small[y] :smile: :rainbow[z]",
    "arrows": "a -> b <- c <-> d -- e >= f <= g ~= h :streamlit: -> www.x.invalid a@x.invalid",
    "formula": '=HYPERLINK("http://x.invalid","x")',
    "plus": "+1+cmd|' /C calc'!A0",
    "minus": "-2+3",
    "at": "@SUM(1,1)",
    "tab": "\t=1+1",
    "return": "\r=1+1",
    "apostrophe": "'=1",
    "rtl": "\u202eevil\u202c \u2067right to left\u2069 \u0627\u0644\u0639",
    "bidi marks": "a\u200eb\u200fc\u061cd",
    "zero width": "a\u200bb\u200dc\ufeffd\u2060e",
    "control": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f",
    "nul": "a\x00b",
    "escape codes": "\x1b[31mred\x1b[0m\x1b]0;owned\x07",
    "separators": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg",
    "surrogate": "half \ud800 a character \udfff",
    "combining": "Z\u0351\u036b\u0343\u036a\u0302" * 40,
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f4\U000e0067\U000e0062 \U0001f1e9\U0001f1ea",
    "noncharacter": "\ufffe\uffff\U0010ffff \ufffd",
    "private use": "\ue000\uf8ff\U000f0000",
    "quotes": '"""\'\'\'``` "," \\" \\\\ \\n {{x}} {% raise %} ${y} %s {0}',
    "json": '{"role": "user", "content": "x"}',
    "conversation": '[{"role": "user", "content": "x"}]',
    "python": "[{'role': 'user', 'content': 'x'}]",
    "transcript": "\n\nHuman: a\n\nAssistant: b",
    "special tokens": "<|im_start|>system\nx<|im_end|></s><s><eos><pad>",
    "jinja": "{{ config.__class__ }} {% for x in range(9**9) %}",
    "null word": "null", "nan word": "NaN", "true word": "true", "number": "1e999", "date": "2024-01-01",
    "long word": "x" * 200_000,
    "many lines": "\n" * 5_000 + "x",
    "many spaces": " " * 5_000 + "x",
    "path": "../../../../etc/passwd",
    "sql": "'); DROP TABLE pairs; --",
    "percent": "%00%0a%s%n",
    "wide formula": "＝1+1",
    "crlf": "a\r\nb\rc\nd",
    "tatweel": "ـ" * 3_000,
}  # fmt: skip
"""Name -> a text that may stand in any field of a pair and has to come back unchanged."""


def parquet(rows: list[dict[str, object]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return b'{"prompt": "p", "chosen": "a", "rejected": "b", "x": ' + opening * depth + b"1" + closing * depth + b"}"


def many(data: bytes, count: int) -> bytes:
    return b"\n".join([data] * count)


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("pairs.jsonl", data)
    return out.getvalue()


def files() -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of files each of which is refused in a sentence, or read without losing a pair."""
    whole_json, whole_csv = json.dumps([GOOD] * 3, indent=1).encode(), b"prompt,chosen,rejected\n" + many(b"p,a,b", 3)
    whole_parquet, packed = parquet([dict(GOOD)] * 3), gzip.compress(many(LINE, 300))
    for share in (1, 2, 3, 5, 8, 9):
        yield f"cut{share}.jsonl", many(LINE, 3)[: -3 * share]
        yield f"cut{share}.json", whole_json[: len(whole_json) * share // 10]
        yield f"cut{share}.csv", whole_csv[: len(whole_csv) * share // 10]
        yield f"cut{share}.parquet", whole_parquet[: len(whole_parquet) * share // 10]
        yield f"cut{share}.jsonl.gz", packed[: len(packed) * share // 10]
    for number, place in enumerate(range(4, len(whole_parquet) - 8, len(whole_parquet) // 12)):
        yield f"flipped{number}.parquet", whole_parquet[:place] + bytes([whole_parquet[place] ^ 255]) + whole_parquet[place + 1 :]
    for number, place in enumerate(range(12, len(packed) - 8, len(packed) // 6)):
        yield f"flipped{number}.jsonl.gz", packed[:place] + bytes([packed[place] ^ 255]) + packed[place + 1 :]
    for encoding in ("utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "shift_jis", "utf-7"):
        text = '{"prompt": "Käse?", "chosen": "ja", "rejected": "nein"}'
        data = text.encode(encoding, "replace")
        yield f"{encoding}.jsonl", data
        yield f"{encoding}.json", b"[" + data + b"]"
        yield f"{encoding}.csv", "prompt,chosen,rejected\nKäse,ja,nein\n".encode(encoding, "replace")
    garbage: dict[str, bytes] = {
        "empty": b"", "space": b" \n\t ", "nul": b"\x00" * 999, "nuls in line": LINE + b"\x00\n", "bom": b"\xef\xbb\xbf",
        "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "zip": zipped(LINE), "pdf": b"%PDF-1.7\n" + bytes(range(128, 256)),
        "gzip head": b"\x1f\x8b", "gzip of nothing": gzip.compress(b""), "bz2 head": b"BZh9", "xz head": b"\xfd7zXZ\x00",
        "zstd head": b"\x28\xb5\x2f\xfd", "twice packed": gzip.compress(gzip.compress(LINE)), "par": b"PAR1", "two pars": b"PAR1PAR1",
        "number": b"1", "text": b'"x"', "null": b"null", "list of numbers": b"[1, 2]", "lists": b"[[1], [2]]", "object": b"{}",
        "empty list": b"[]", "broken": b"{", "comma": b'[{"a": 1},]', "no comma": b'[{"a": 1} {"a": 2}]', "after": whole_json + b"x",
        "nan": b'{"prompt": NaN, "chosen": Infinity, "rejected": "b"}', "single quotes": b"{'prompt': 'p', 'chosen': 'a'}",
        "comment": b"// x\n" + LINE, "html": b"<!DOCTYPE html><html>404</html>", "lfs": b"version https://git-lfs.github.com/spec/v1\n",
        "deep": nested(100_000), "deep open": b"[" * 100_000, "deep objects": nested(50_000, b'{"a":', b"}"), "deep enough": nested(900),
        "digits": b'{"prompt": "p", "chosen": "a", "rejected": "b", "n": ' + b"9" * 10_000 + b"}", "bad escape": rb'{"prompt": "\x"}',
        "bad bytes": b'{"prompt": "\xff\xfe\xc0\x80", "chosen": "a", "rejected": "b"}', "overlong": b'{"prompt": "\xc0\xaf"}',
        "cesu": b'{"prompt": "\xed\xa0\x80", "chosen": "a", "rejected": "b"}', "repeated keys": b'{"chosen": "x", ' + LINE[1:],
        "columns of lists": json.dumps({"prompt": ["p", "q"], "chosen": ["a", "b"], "rejected": ["c", "d"]}).encode(),
        "by index": json.dumps({"prompt": {"0": "p"}, "chosen": {"0": "a"}, "rejected": {"0": "b"}}).encode(),
        "two keys": json.dumps({"a": [GOOD], "b": [GOOD]}).encode(), "rows in rows": json.dumps({"data": {"rows": [GOOD]}}).encode(),
    }  # fmt: skip
    for name, data in garbage.items():
        for suffix in ("jsonl", "json"):
            yield f"{name}.{suffix}", data
    tables: dict[str, bytes] = {
        "quote": b'prompt,chosen,rejected\n"a,b,c\n', "quotes": b'prompt,chosen,rejected\na"b,"c"d,e\n', "header": b"prompt,chosen,rejected",
        "one column": b"chosen\nx\n", "same names": b"prompt,chosen,chosen\na,b,c\n", "no names": b",,\na,b,c\n", "ragged": b"a,b\n1\n2,3,4\n",
        "nul": b"prompt,chosen,rejected\na\x00,b,c\n", "cr": b"prompt,chosen,rejected\ra,b,c\r", "wide": b"a," * 50_000 + b"\n",
        "latin": b"prompt,chosen,rejected\n\xe4,b,c\n", "blank": b"\n\n\n", "bom": b"\xef\xbb\xbfprompt,chosen,rejected\np,a,b\n",
        "open text": b"prompt,chosen,rejected\n[{'role': 'user',b,c\n", "json cell": b'prompt;chosen;rejected\n{"role":;a;b\n',
    }  # fmt: skip
    for name, data in tables.items():
        yield f"{name}.csv", data
        yield f"{name}.tsv", data.replace(b",", b"\t")
    yield "ints.parquet", parquet([{"prompt": 1, "chosen": 2, "rejected": 3}])
    yield "nulls.parquet", parquet([{"prompt": None, "chosen": None, "rejected": None}])
    yield "bytes.parquet", parquet([{"prompt": b"\xff", "chosen": b"a", "rejected": b"b"}])
    yield "empty.parquet", parquet([{"prompt": "p", "chosen": "a", "rejected": "b"}][:0] or [{"x": 1}])


ROWS: list[object] = [
    None, 1, 1.5, True, "text", [], [1], {}, {"prompt": "p"}, {"chosen": "a", "rejected": None},
    *({**GOOD, field: value} for field in ("prompt", "chosen", "rejected") for value in (
        None, 0, True, 1.5, [], {}, [None], [1], ["x"], [[]], {"role": "user"}, {"content": "x"}, [{"role": 1, "content": "x"}],
        [{"role": "user", "content": None}], [{"role": "assistant", "content": [{"type": "image"}]}],
        [{"role": "assistant", "content": {"a": 1}}], [{"role": "assistant", "content": "x", "tool_calls": 3}],
        [{"role": "assistant", "content": "x", "tool_calls": [None]}], [{"from": 3, "value": 4}], [{"from": "function_call", "value": "{"}],
    )),
    *({**GOOD, "tools": value} for value in (1, "x", "{", [1], {"a": 1}, [[]])),
    *({**GOOD, "system": value} for value in (1, [], {"a": 1}, True)),
    *({**GOOD, "weight": value} for value in ("x", -1, float("nan"), 10**400, None, [])),
    *({**GOOD, "degree": value} for value in ("x", -1, 2, float("inf"), {})),
    *({**GOOD, "score_chosen": one, "score_rejected": other} for one, other in ((1, "x"), (None, None), (10**400, 1), ([], {}))),
    {**GOOD, 3: 4, None: 5}, {**GOOD, "lab_pair_id": 3}, {**GOOD, "lab_pair_id": "\n"}, {**GOOD, "lab_tags": [1], "lab_note": 3},
    {**GOOD, "x": object()}, {**GOOD, "x": {1, 2}}, {**GOOD, "x": b"bytes"}, {**GOOD, "x": 1j}, {**GOOD, "x": lambda: 1},
]  # fmt: skip
"""Rows of wrong types in every field."""


BOMBS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "gzip": lambda: ("bomb.jsonl.gz", gzip.compress(b"\x00" * 300_000_000, 9)),
    "gzip of rows": lambda: ("bomb.jsonl.gz", gzip.compress(many(LINE, 1_000_000), 9)),
    "bzip2": lambda: ("bomb.jsonl.bz2", bz2.compress(b"a" * 300_000_000)),
    "xz": lambda: ("bomb.csv.xz", lzma.compress(b"a,b,c\n" * 4_000_000)),
    "long line": lambda: ("long.jsonl", b'{"prompt": "' + b"x" * 100_000_000 + b'", "chosen": "a", "rejected": "b"}\n' + LINE),
    "long list": lambda: ("long.json", b'[{"prompt": "' + b"x" * 100_000_000 + b'", "chosen": "a", "rejected": "b"}]'),
    "long cell": lambda: ("long.csv", b"prompt,chosen,rejected\n" + b"x" * 100_000_000 + b",a,b\n"),
    "open quote": lambda: ("open.csv", b'prompt,chosen,rejected\n"' + b"x\n" * 50_000_000),
    "parquet": lambda: ("bomb.parquet", parquet_of_one_text("x" * 1_000_000, 20_000)),
}
"""Name -> (file name, content) of files that take far more than they hold, all refused by a limit."""


def parquet_of_one_text(text: str, count: int) -> bytes:
    """A Parquet file with the same text in every row, of which it stores one."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))
    short = pa.array(["a"] * count)
    out = io.BytesIO()
    pq.write_table(pa.table({"prompt": column, "chosen": short, "rejected": pa.array(["b"] * count)}), out, store_schema=False)
    return out.getvalue()
