"""Values, keys and files that make no sense, for `tests.bench.random_clicks`."""

from __future__ import annotations

import io
import json

import pandas as pd

ROWS = [{"prompt": f"p{i}", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(12)]


def parquet(rows: list[dict[str, str]]) -> bytes:
    """A Parquet file of some rows."""
    content = io.BytesIO()
    pd.DataFrame(rows).to_parquet(content, index=False)
    return content.getvalue()


NONSENSE = (
    "", " ", "0", "-1", "-0", "1", "2", "3", "0.5", "1e-4", "7", "NaN", "inf", "-inf", "1e400", "1" + "0" * 400, "-1e308",
    "1e-320", "9007199254740993", "99999999999999999999", "1,5", "1_000", "\uff11\uff12", "0x10", "abc", "None", "null",
    "true", "{}", "[]", '{"a":', "<b>bold</b>", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>",
    "$x$ :red[x] **b** ![](http://x.invalid/p.png)", "../../../etc/passwd", "/etc/passwd", "/dev/zero", "/dev/random",
    "/dev/stdin", "/proc/self/mem", "/proc/self/fd/0", "/tmp", "/", ".", "~", "~nobody", "owner/name", "a/b/c", "world",
    "world\n", "\t", "C:\\x", "file:///etc/passwd", "http://127.0.0.1:1/x", "\u202eabc",
    "\ud83d\udc69\u200d\ud83d\udc69\u200d\ud83d\udc67", "\x00", "\x1b[31m", "a" * 20_000, "x " * 5_000,
    "'; DROP TABLE runs; --", "%s %n {0}", "pair-000", "layers.0", "*", "**", "(", "\\", "cuda:77", "cpu", "dpo", "dpop",
    "sgdpo", "2e-3, 1", "-2, -3; 1, 1", ";;;", "1, 2; 3",
)  # fmt: skip
LONE_HALF = "a half of a character"
"""Typed as U+D800 alone, which no text of UTF-8 can hold."""

KEYS = (
    "Escape", "Enter", "Tab", "Shift+Tab", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "Space",
    "PageDown", "n", "p", "s", "d", "u", "y", "l", "r", "c", ",", ".", "?", "Shift+P", "Backspace", "Delete", "Control+a",
)  # fmt: skip
CLICKABLE = (
    "button, a[href], [role=tab], [role=radio], [role=checkbox], [role=switch], [role=option], summary, label, [role=gridcell]"
)
FIELDS = "input:not([type=file]):not([type=range]):not([type=checkbox]):not([type=radio]), textarea"

FILES: dict[str, bytes] = {
    "good.jsonl": b"".join(b'{"prompt": "p%d", "chosen": "a%d", "rejected": "b%d"}\n' % (i, i, i) for i in range(12)),
    "good.csv": b"prompt,chosen,rejected\n" + b"".join(b"p%d,a%d,b%d\n" % (i, i, i) for i in range(12)),
    "good.json": json.dumps(ROWS).encode(),
    "good.parquet": parquet(ROWS),
    "empty.jsonl": b"",
    "broken.jsonl": b'{"prompt": "p", "chosen": "a", "rejected": "b"}\nnot json\n',
    "broken.csv": b'prompt,chosen\n"unclosed',
    "broken.parquet": b"PAR1 is not all it takes PAR1",
    "bytes.json": bytes(range(256)),
    "half.jsonl": b'{"prompt": "p", "chosen": "\\ud800", "rejected": "b"}\n',
    "picture.png": b"\x89PNG\r\n\x1a\n",
    "..%2f<b>.jsonl": b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n',
}
