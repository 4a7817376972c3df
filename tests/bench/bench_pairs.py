"""How fast 100,000 pairs are opened, paged and searched.    python -m tests.bench.bench_pairs [pairs] [words per answer]

The pages a person turns and the search they type must come well under 200 ms; exits with 1 if one does not.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab.pairs import Pair, PairStore, open_pairs

LIMIT_MS = 200.0


def made_up_pairs(count: int, message: int) -> Iterator[Pair]:
    """Random pairs, with `message` words of 5.5 letters an answer and a fifth of that in the prompt."""
    rng = random.Random(0)
    known = ["".join(rng.choices("etaoinshrdlucm", k=rng.randint(2, 9))) for _ in range(5000)]
    for i in range(count):
        prompt, chosen, rejected = (" ".join(rng.choices(known, k=k)) for k in (max(message // 5, 3), message, message))
        yield Pair(f"{i:012x}", f"{prompt} {i}?", f"{chosen} A", f"{rejected} B", meta={"score": i % 7})


def best_ms(call: Callable[[], Any], repeats: int = 5) -> float:
    """The fastest of some calls, in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def main(count: int = 100_000, message: int = 35) -> int:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = Path(folder) / "a.sqlite"
        store = PairStore.create(path, made_up_pairs(count, message), name="bench", source="bench")
        print(f"{count:,} pairs, {message} words an answer, {path.stat().st_size / 1e6:.0f} MB")
        print(f"{'create':34}{(time.perf_counter() - start) * 1e3:9.1f} ms")
        some = store.ids()[:: max(count // 300, 1)]
        for id in some:
            store.edit(id, chosen=f"edited {id}")
        fresh = iter("abcdefghijklmnopqrstuvwxyz" * 9)  # each search for another text, so that none is answered from before
        numbers = iter(range(100))
        interactive: dict[str, Callable[[], Any]] = {
            "first page": lambda: store.page(0, 50),
            "last page": lambda: store.page(count - 50, 50),
            "edited, recent first": lambda: store.page(0, 50, only="edited", order="recent"),
            "dropped": lambda: store.page(0, 50, only="dropped"),
            "search, no match": lambda: store.page(0, 50, search="zq" + next(fresh)),
            "search, one match": lambda: store.page(0, 50, search=f" {count - 1 - next(numbers)}?"),
            "search, many matches": lambda: store.page(0, 50, search="tA" + next(fresh)),
            "search, every pair": lambda: store.page(0, 50, search=next(fresh)),
            "a page of the same search": lambda: store.page(50, 50, search="zqa"),
            "edit": lambda: store.edit(some[0], chosen=f"again {time.time_ns()}"),
            "undo": store.undo,
        }
        slow = []
        for name, call in interactive.items():
            took = best_ms(call)
            slow += [name] if took > LIMIT_MS else []
            print(f"{name:34}{took:9.1f} ms{'   TOO SLOW' if took > LIMIT_MS else ''}")
        batch: dict[str, Callable[[], Any]] = {"ids": store.ids, "all": store.all, "all as imported": lambda: store.all(0)}
        for name, call in batch.items():
            print(f"{name:34}{best_ms(call, 2):9.1f} ms")
        out = Path(folder) / "out.jsonl"
        print(f"{'export .jsonl':34}{best_ms(lambda: store.export(out), 1):9.1f} ms")
        print(f"{'open .jsonl, first time':34}{best_ms(lambda: open_pairs(out, home=Path(folder)), 1):9.1f} ms")
        print(f"{'open .jsonl, again':34}{best_ms(lambda: open_pairs(out, home=Path(folder)), 1):9.1f} ms")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
