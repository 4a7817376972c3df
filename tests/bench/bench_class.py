"""What a class costs: a room of viewers on the Live page of a running run, by real websocket sessions.

    python -m tests.bench.bench_class [--viewers 30] [--seconds 60] [--alone 20] [--executor process|thread]

The lab is served as `make class` serves it, on the loopback address, and a run trains. Its steps are counted for --alone seconds
without viewers, for --seconds with all of them, and again without. Printed: the delay of each picture (the age, when it is
replaced, of the first step that it did not show), the run's steps per second with and without viewers, errors, and the cost of
the server.
The viewers' own process takes part of the same processor.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.viewers import Viewer

ROOT = Path(__file__).parents[2]
STARTING = 120.0
"""Seconds that the lab may take to start and to train its first steps."""


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process so far, in seconds (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def count(run: object, seconds: float, into: list[tuple[float, int]]) -> None:
    """Note the run's step about every 50 ms."""
    until = time.time() + seconds
    while time.time() < until:
        into.append((time.time(), run.step))  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)


def rate(steps: list[tuple[float, int]]) -> float:
    """Return steps per second."""
    (began, first), (ended, last) = steps[0], steps[-1]
    return (last - first) / (ended - began)


def delays(viewer: Viewer, steps: list[tuple[float, int]], since: float) -> list[float]:
    """Return, for every picture replaced after `since`, the age of the first step that it did not show, in seconds."""
    numbers = [step for _, step in steps]
    result = []
    for (_, shown), (replaced, _) in zip(viewer.seen, viewer.seen[1:]):
        place = bisect.bisect_right(numbers, shown)  # the first moment with a later step
        if replaced >= since and place < len(steps):
            result.append(max(0.0, replaced - steps[place][0]))
    return result


async def room(run: object, options: argparse.Namespace, host: str, cookie: str) -> tuple[list[Viewer], list[tuple[float, int]]]:
    """Let all viewers look at the run, and note its steps meanwhile."""
    viewers = [Viewer(host, cookie) for _ in range(options.viewers)]
    steps: list[tuple[float, int]] = []

    async def enter(place: int, viewer: Viewer) -> None:
        await asyncio.sleep(0.2 * place)  # a room does not come in within a moment
        await viewer.watch(options.seconds - 0.2 * place)

    await asyncio.gather(count(run, options.seconds, steps), *(enter(place, viewer) for place, viewer in enumerate(viewers)))
    return viewers, steps


def started(log: Path, find: str) -> re.Match[str]:
    """Wait until the server's log has a line."""
    deadline = time.monotonic() + STARTING
    while (match := re.search(find, log.read_text())) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(log.read_text()[-2000:])
        time.sleep(0.2)
    return match


def measure(options: argparse.Namespace) -> None:
    """Serve, train, let the viewers in, and print the figures."""
    import lab
    from tests.helpers import free_port

    port = free_port()
    host = f"127.0.0.1:{port}"
    log = Path(os.environ["LAB_HOME"]) / "server.txt"
    command = [sys.executable, "-m", "app", "--class", "--host", "127.0.0.1", "--port", str(port), "--no-demo"]
    with log.open("wb") as out:
        server = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    run = lab.train("sgdpo", steps=1_000_000, eval_every=0, executor=options.executor, queue=False)
    try:
        token = started(log, r"learn\?token=(\S+)")[1]
        deadline = time.monotonic() + STARTING
        while run.step < 20 and time.monotonic() < deadline:
            time.sleep(0.2)
        before: list[tuple[float, int]] = []
        asyncio.run(count(run, options.alone, before))
        used, began = processor_seconds(server.pid), time.time()
        viewers, steps = asyncio.run(room(run, options, host, f"lab-class-{port}={token}"))
        used, took = processor_seconds(server.pid) - used, time.time() - began
        after: list[tuple[float, int]] = []
        asyncio.run(count(run, options.alone, after))
    finally:
        run.stop()
        server.send_signal(signal.SIGINT)
        server.wait(60)
    settled = began + 0.2 * options.viewers + 5
    late = sorted(delay for viewer in viewers for delay in delays(viewer, steps, settled))
    alone = statistics.mean((rate(before), rate(after)))
    together = rate([(at, step) for at, step in steps if at >= settled])
    pictures = sum(len(viewer.seen) for viewer in viewers)
    print(f"{options.viewers} viewers, {options.seconds:.0f} s, run in a {options.executor}, load average {os.getloadavg()[0]:.1f}")
    print(f"pictures {pictures}, {sum(viewer.received for viewer in viewers) / took / 2**20:.1f} MB/s sent")
    if late:
        print(f"delay: median {statistics.median(late):.2f} s, p95 {late[int(0.95 * len(late))]:.2f} s, longest {late[-1]:.2f} s")
    print(f"steps per second: {rate(before):.1f} before, {together:.1f} with viewers, {rate(after):.1f} after")
    print(f"the run loses {1 - together / alone:.0%}; the server takes {used / took:.2f} processors")
    errors = [error for viewer in viewers for error in viewer.errors]
    print(f"errors {len(errors)}: {sorted(set(errors))[:5]}; without a picture: {sum(not viewer.seen for viewer in viewers)}")
    print(f"tracebacks in the server's log: {log.read_text().count('Traceback')}")


def main() -> None:
    """Measure in a home of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds with viewers")
    parser.add_argument("--alone", type=float, default=20.0, help="seconds without viewers, before and after")
    parser.add_argument("--executor", choices=("process", "thread"), default="process", help="of the run; thread: of this script")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["LAB_HOME"] = home
        measure(options)


if __name__ == "__main__":
    main()
