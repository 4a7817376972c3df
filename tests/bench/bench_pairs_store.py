"""How fast a store of a million pairs is.    python -m tests.bench.bench_pairs_store [pairs] [words per answer] [location]

Imports generated pairs, then opens pages, searches, sorts, edits and undoes in turn (medians and 95th percentiles of wall
time), and exports. Exits with 1 if a limit is missed. `location`: a file, a PostgreSQL URL, or "postgres" for a temporary server on
this machine, whose commits wait for the disk as SQLite's do; by default a temporary SQLite file. In PostgreSQL the search index is
part of the import, and the plan of a search has to use it.
"""

from __future__ import annotations

import random
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import select

from lab.pairs import Pair, PairQuery, PairStore, is_url
from lab.pairs.store import schema
from tests.pairs import postgres

ROUNDS = 20
RATES = {"import": 20_000, "export": 50_000}
"""Least pairs per second."""
LIMITS_MS = defaultdict(lambda: 100.0, {"save an edit": 20.0})
"""Most milliseconds at the 95th percentile."""
MEMORY_MIB = 1024


def vocabulary(rng: random.Random) -> list[str]:
    """20,000 words, common ones short, drawn as often as their rank allows (Zipf), as in natural text."""
    return [
        "".join(rng.choices("etaoinshrdlucmfwypvbgk", k=2 + min(number // 400, 5) + rng.randint(0, 3))) for number in range(20_000)
    ]


def generated(count: int, words: int, known: list[str], rng: random.Random) -> Iterator[Pair]:
    """Pairs with answers of `words` words and prompts of a third of that, from 50,000 sentences drawn before."""
    weights = [1 / (rank + 5) for rank in range(len(known))]
    drawn = [" ".join(rng.choices(known, weights, k=words)) for _ in range(50_000)]
    for i in range(count):
        prompt = drawn[i * 7 % 50_000][: words * 2]
        yield Pair(
            f"{i:012x}", f"{prompt} {i}?", f"{drawn[i * 11 % 50_000]} {i}", drawn[(i * 13 + 5) % 50_000], meta={"score": i % 7}
        )


def print_search_plans(store: PairStore, known: list[str]) -> None:
    """Print by which index PostgreSQL finds words of some ranks."""
    for rank in (100, 1_000, 10_000):
        word = next(word for word in known[rank:] if len(word) > 2)
        query = schema.search.c.text.contains(word, autoescape=True)
        with store._database.reading() as db:
            statement = select(schema.search.c.position).where(query).compile(db, compile_kwargs={"literal_binds": True})
            plan = [row[0] for row in db.exec_driver_sql("EXPLAIN " + str(statement).replace("%%", "%").replace("%", "%%"))]
        uses = "the search index" if any("search_index" in line for line in plan) else "a scan"
        print(f"{f'search of {word!r}, rank {rank:,}':34}{uses:>12}", flush=True)


def percentile(times: list[float]) -> float:
    return sorted(times)[max(0, -(-95 * len(times) // 100) - 1)]


def main(count: int = 1_000_000, words: int = 20, location: str = "") -> int:
    rng, missed = random.Random(0), []
    known = vocabulary(rng)

    def rate(name: str, seconds: float, cpu: float) -> None:
        reached = count / seconds
        missed.extend([name] if reached < RATES[name] else [])
        print(f"{name:34}{reached:12,.0f} pairs/s ({count / cpu:,.0f} per CPU second; at least {RATES[name]:,})", flush=True)

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if location == "postgres":
            location = f"{stack.enter_context(postgres.server(durable=True))}&set=bench"
        pairs = generated(count, words, known, rng)
        first = next(pairs)
        clock, cpu = time.perf_counter(), time.process_time()
        where = location or str(Path(folder) / "a.sqlite")
        store = PairStore.create(where, (pair for part in ([first], pairs) for pair in part), name="bench", source="bench")
        rate("import", time.perf_counter() - clock, time.process_time() - cpu)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        missed += ["memory"] if peak > MEMORY_MIB else []
        print(f"{'peak memory of the import':34}{peak:12,.0f} MiB (at most {MEMORY_MIB:,})")
        if not location:
            print(f"{'file':34}{store.path.stat().st_size / 2**20:12,.0f} MiB, {words} words an answer")
        if is_url(where):
            print_search_plans(store, known)
        else:
            clock = time.perf_counter()
            store.wait_for_search()
            print(f"{'the search index, in the background':34}{count / (time.perf_counter() - clock):12,.0f} pairs/s", flush=True)
        clock = time.perf_counter()
        store.put_numbers("run/margin", {f"{i:012x}": rng.gauss(0, 1) for i in range(count)})
        print(f"{'store a number of every pair':34}{count / (time.perf_counter() - clock):12,.0f} pairs/s", flush=True)

        def page(**query: Any) -> Callable[[], Any]:
            return lambda: store.page(PairQuery(**query), rng.randrange(max(count - 25, 1)), 25)

        def search(ranks: range) -> Callable[[], Any]:
            return lambda: store.page(PairQuery(rng.choice([word for word in known[ranks.start : ranks.stop] if len(word) > 2])))

        edited = [f"{rng.randrange(count):012x}" for _ in range(1000)]
        calls: dict[str, Callable[[], Any]] = {
            "any page": page(),
            "any page, longest answers first": page(sort="chosen_words", descending=True),
            "any page, by a term of a run": page(sort="run/margin"),
            "edited, latest first": lambda: store.page(PairQuery(state="edited", sort="recent")),
            "search: a number in one pair": lambda: store.page(PairQuery(f" {rng.randrange(count)}?")),
            "search: a rare word": search(range(10_000, 20_000)),
            "search: a word of rank 1,000": search(range(900, 1100)),
            "search: a word of rank 100": search(range(90, 110)),
            "search: no match": lambda: store.page(PairQuery(f"zq{rng.randrange(10**6)}")),
            "save an edit": lambda: store.edit(rng.choice(edited), chosen=f"{rng.choice(known)} {time.time_ns()}"),
            "tag a pair": lambda: store.edit(rng.choice(edited), tags=[rng.choice(known)]),
            "undo": store.undo,
        }
        times: dict[str, list[float]] = defaultdict(list)
        work: dict[str, list[float]] = defaultdict(list)
        for _ in range(ROUNDS):
            for name, call in calls.items():
                clock, cpu = time.perf_counter(), time.thread_time()
                call()
                times[name].append((time.perf_counter() - clock) * 1e3)
                work[name].append((time.thread_time() - cpu) * 1e3)
        for name, taken in times.items():
            high = percentile(taken)
            missed += [name] if high > LIMITS_MS[name] else []
            cpu_times = f"CPU {statistics.median(work[name]):.1f} and {percentile(work[name]):.1f}"
            limit = f"at most {LIMITS_MS[name]:g}"
            print(f"{name:34}{statistics.median(taken):12.1f} ms median, {high:.1f} ms p95 ({limit}; {cpu_times})", flush=True)
        clock, cpu = time.perf_counter(), time.process_time()
        store.export(Path(folder) / "out.jsonl")
        rate("export", time.perf_counter() - clock, time.process_time() - cpu)
        store.close()
    print(f"missed: {', '.join(missed)}" if missed else "every limit is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*(int(value) for value in sys.argv[1:3]), *sys.argv[3:4]))
