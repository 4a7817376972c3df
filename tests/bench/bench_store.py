"""What reading costs on the store of a long run, and what writing it costs.

    python -m tests.bench.bench_store [--steps 1000000] [--scalars 40] [--pairs 100000] [--batch 8] [--terms 12] [--bulk]

Builds a store through the real writer (thinning, packing and all), as fast as it takes it, then reads it as a page does that is
redrawn every second: --reads times each, on one reader, the file in the page cache. The pairs come in epochs, in a new order each.

--bulk writes only what the policy would leave of such a run, into the same tables through the same packing, and says nothing about
the rate: for a machine on which a million steps through the writer take too long.   --keep leaves the store in a folder, and
reads the one that is there already.   Where other programs take the processor, the columns "CPU" say what the work itself costs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lab.store import LayerRow, StoreReader, StoreWriter
from lab.store.schema import FILE_NAME, open_for_writing
from lab.store.series import LAYER, SCALAR, SeriesWriter
from lab.store.thinning import SNAPSHOT_ROWS, STEPS, Thinner, tier
from lab.store.writer import LAYER_COLUMNS

Row = tuple[str, ...]


def build(folder: Path, options: argparse.Namespace) -> list[Row]:
    """Write the run; returns what writing cost."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    store = StoreWriter(folder, keep_pair_rows=options.keep_pair_rows)
    names = [f"series-{i:02d}" for i in range(options.scalars)]
    terms = [f"term_{i:02d}" for i in range(options.terms)]
    layers = [f"layers.{i}" for i in range(24)]
    order, at, versions = rng.permutation(options.pairs), 0, [0] * options.batch
    ids = [f"pair-{i:06d}" for i in range(options.pairs)]
    handed = np.empty(options.steps)
    began, busy = time.perf_counter(), time.process_time()
    for step in range(1, options.steps + 1):
        if at + options.batch > options.pairs:
            order, at = rng.permutation(options.pairs), 0
        batch = [ids[i] for i in order[at : at + options.batch]]
        at += options.batch
        scalars = dict(zip(names, rng.normal(size=options.scalars).tolist()))
        table = rng.normal(size=(options.terms, options.batch)).astype(np.float32)
        numbers = dict(zip(terms, table))
        start = time.perf_counter()
        store.scalars(step, scalars)
        store.pair_terms(step, batch, versions, numbers)
        store.status(step=step)
        handed[step - 1] = time.perf_counter() - start
        if step % options.probe_every == 0:
            store.layers(step, [LayerRow(layer, *rng.random(3).tolist()) for layer in layers])
        if step % options.event_every == 0:
            store.event(step, "checkpoint" if step % (2 * options.event_every) else "warning", message="something", folder="x")
        if step % options.look_every == 0:
            held = {term: rng.normal(size=100).astype(np.float32) for term in terms}
            store.held_out(step, [f"held-{i}" for i in range(100)], [0] * 100, held)
        if step % 2000 == 0:
            store.flush(600)
        if step % 50_000 == 0:
            print(f"  {step:,} steps in {time.perf_counter() - began:.0f} s", flush=True)
    store.flush(600)
    took = time.perf_counter() - began
    while store._series.due() or store._thinner.due():  # what a fast writer left to do
        time.sleep(0.3)
    tended, cpu = time.perf_counter() - began, time.process_time() - busy
    store.close()
    if store.failure:
        raise RuntimeError(store.failure)
    return [
        (
            "write",
            "steps a second (numbers of pairs' terms a second)",
            f"{options.steps / took:,.0f} ({numbers_of(options) / took:,.0f})",
        ),
        ("write", "all, with packing and thinning to the end", f"{tended:,.0f} s"),
        ("write", "CPU a step, making up the numbers included", f"{1e6 * cpu / options.steps:,.0f} µs"),
        (
            "write",
            "hand-over in the loop's thread, median; p95",
            f"{1e6 * np.median(handed):.0f}; {1e6 * np.quantile(handed, 0.95):.0f} µs",
        ),
    ]


def build_in_bulk(folder: Path, options: argparse.Namespace) -> None:
    """The tables of such a run after thinning, written directly."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    StoreWriter(folder).close()
    c = open_for_writing(folder)
    c.execute("BEGIN")
    last, B, T = options.steps, options.batch, options.terms
    series, thinner = SeriesWriter(c), Thinner(c, options.keep_pair_rows)
    cut = last - 200  # so many lie in `recent`
    layers = [f"{column} layers.{i}" for i in range(24) for column in LAYER_COLUMNS]
    names = [(SCALAR, f"series-{i:02d}", 1) for i in range(options.scalars)] + [
        (LAYER, name, options.probe_every) for name in layers
    ]
    for number, (kind, name, every) in enumerate(names, 1):
        c.execute("INSERT INTO series VALUES (?, ?, ?)", (number, kind, name))
        steps = np.arange(every, (cut if kind == SCALAR else last) + 1, every)
        series.append(number, steps, np.cumsum(rng.normal(size=len(steps))))
    series.reset()
    for step in range(cut + 1, last + 1):
        series.add(SCALAR, step, range(1, options.scalars + 1), rng.normal(size=options.scalars).tolist())
    c.executemany("INSERT INTO pairs (pair) VALUES (?)", [(f"pair-{i:06d}",) for i in range(options.pairs)])
    c.executemany("INSERT INTO pairs (pair) VALUES (?)", [(f"held-{i}",) for i in range(100)])
    c.execute("INSERT INTO columns VALUES (1, ?)", (json.dumps([f"term_{i:02d}" for i in range(T)]),))
    thinner.note(last, B)
    whole, order, per_epoch = thinner.whole, rng.permutation(options.pairs), options.pairs // B
    versions = np.zeros(B, np.int32).tobytes()
    for step in range(1, last + 1):
        place = (step - 1) % per_epoch
        if not place:
            order = rng.permutation(options.pairs)
        number = tier(last - step, whole)
        batch = order[place * B : (place + 1) * B].astype(np.int32) + 1
        if step % (1 << number) == 0:
            terms = rng.normal(size=(B, T)).astype(np.float32)
            c.execute("INSERT INTO batches VALUES (?, 1, ?, ?, ?, ?)", (step, B, batch.tobytes(), versions, terms.tobytes()))
            c.executemany("INSERT INTO seen VALUES (?, 0, ?)", [(pair, step) for pair in batch.tolist()])
        else:  # pairs' first rows, and about 2 T extremes of every window
            first = step <= per_epoch
            share = 2 * T / (B * (STEPS << number))
            singles = [int(pair) for pair in batch if first or rng.random() < share]
            term = rng.normal(size=T).astype(np.float32).tobytes()
            c.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, 0, 1, ?)", [(pair, step, first, term) for pair in singles])
        if step % options.event_every == 0:
            detail = json.dumps({"message": "something", "folder": "x"})
            c.execute("INSERT INTO events (time, step, kind, detail) VALUES (?, ?, 'warning', ?)", (time.time(), step, detail))
        if step % options.look_every == 0:
            held = np.arange(options.pairs + 1, options.pairs + 101, dtype=np.int32)
            blobs = held.tobytes(), np.zeros(100, np.int32).tobytes(), rng.normal(size=(100, T)).astype(np.float32).tobytes()
            c.execute("INSERT INTO held_out VALUES (?, 1, 100, ?, ?, ?)", (step, *blobs))
            c.executemany("INSERT INTO seen VALUES (?, 1, ?)", [(pair, step) for pair in held.tolist()])
        if step % (max(SNAPSHOT_ROWS, options.pairs) // B) == 0:
            thinner._latest = step
            thinner._snap()
        if step % 20_000 == 0:
            c.execute("COMMIT")
            c.execute("BEGIN")
    c.execute("INSERT INTO status VALUES ('step', ?)", (str(last),))
    c.execute("COMMIT")
    c.close()


def numbers_of(options: argparse.Namespace) -> int:
    """Pair terms that the run hands over."""
    return int(options.steps * options.batch * options.terms)


def reads(reader: StoreReader) -> dict[str, Callable[[], Any]]:
    """What a page asks for each second, and what time travel and the library ask for."""
    names, last = reader.scalars.names(), reader.step
    middle, rng = last // 2, np.random.default_rng(1)
    pair = reader.pairs.batch(last)["pair"].iloc[0]
    shown = names[:30]

    def anywhere() -> int:
        return int(rng.integers(1, last + 1))

    return {
        "status, names, term_names": lambda: (reader.status(), reader.scalars.names(), reader.pairs.term_names()),
        "scalars of 30 series, 1,000 points each": lambda: reader.scalars.read(shown, points=1000),
        "scalars of 1 series, 1,000 points": lambda: reader.scalars.read(shown[:1], points=1000),
        "scalars of 6 series in a zoom on 20,000 steps": lambda: reader.scalars.read(
            shown[:6], first=middle, last=middle + 20_000, points=1000
        ),
        "scalars of 30 series up to any step, 1,000 points": lambda: reader.scalars.read(shown, last=anywhere(), points=1000),
        "scalars of 30 series, what is new (last 2 steps)": lambda: reader.scalars.read(shown, first=last - 1),
        "means of 30 series, 1,000 points": lambda: reader.scalars.means(shown),
        "layers, 24 x 120 points": lambda: reader.layers.read(points=120),
        "terms_over_time, 240 columns": lambda: reader.pairs.over_time(reader.pairs.term_names(), columns=240),
        "terms_over_time up to any step": lambda: reader.pairs.over_time(reader.pairs.term_names(), last=anywhere(), columns=240),
        "held_out at any step": lambda: reader.held_out.latest(anywhere()),
        "events, all": lambda: reader.events.read(),
        "events, what is new": lambda: reader.events.read(after=int(reader.events.read("warning")["number"].max()) - 1),
        "pairs, latest": lambda: reader.pairs.latest(),
        "pairs at any step": lambda: reader.pairs.latest(anywhere()),
        "pair_history": lambda: reader.pairs.history(pair),
        "batch of the latest step": lambda: reader.pairs.batch(last),
        "one whole series, every value": lambda: reader.scalars.read(shown[:1]),
    }


def measure(folder: Path, times: int) -> Iterator[Row]:
    """Milliseconds of each read, each on the same warm reader after one first read."""
    reader = StoreReader(folder)
    for what, read in reads(reader).items():
        found = []
        for _ in range(times + 1):
            began, busy = time.perf_counter(), time.thread_time()
            read()
            found.append((1000 * (time.perf_counter() - began), 1000 * (time.thread_time() - busy)))
        wall, cpu = zip(*found[1:])
        numbers = found[0][0], np.median(wall), np.quantile(wall, 0.95), np.median(cpu), np.quantile(cpu, 0.95)
        yield what, *(f"{number:.1f}" for number in numbers)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("steps", 1_000_000), ("scalars", 40), ("pairs", 100_000), ("batch", 8), ("terms", 12), ("reads", 20)):
        options.add_argument(f"--{name}", type=int, default=value)
    options.add_argument("--keep-pair-rows", type=int, default=500_000)
    options.add_argument("--probe-every", type=int, default=50)
    options.add_argument("--event-every", type=int, default=500)
    options.add_argument("--look-every", type=int, default=200)
    options.add_argument("--keep", type=Path)
    options.add_argument("--bulk", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = given.keep or Path(place)
        written: list[Row] = []
        if not (folder / FILE_NAME).exists():
            if given.bulk:
                build_in_bulk(folder, given)
            else:
                written = build(folder, given)
        size = sum(path.stat().st_size for path in folder.glob(f"{FILE_NAME}*")) / 2**20
        print(f"{given.steps:,} steps, {given.scalars} scalars, {given.pairs:,} pairs, {numbers_of(given):,} pair terms written\n")
        print("| writing | |\n|---|---|")
        for _, what, value in written:
            print(f"| {what} | {value} |")
        print(f"| size on disk | {size:,.0f} MiB |\n")
        print("| read | first, ms | median, ms | p95, ms | CPU median, ms | CPU p95, ms |\n|---|---|---|---|---|---|")
        for row in measure(folder, given.reads):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
