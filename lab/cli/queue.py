"""`python -m lab queue`: the running and waiting runs of each device, and their order."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add(commands: Any) -> None:
    """Declare the command."""
    p = commands.add_parser(
        "queue",
        help="list running and waiting runs, and change their order",
        description="One run trains on a device at a time; the others wait. `show RUN --stop` removes a run from the queue.",
    )
    p.add_argument("--json", action="store_true", help="print one JSON object per line")
    change = p.add_mutually_exclusive_group()
    change.add_argument("--first", metavar="RUN", help="make a waiting run the next to train")
    change.add_argument("--move", nargs=2, metavar=("RUN", "PLACE"), help="move a waiting run to a place; 1 is next")
    p.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Change the order if an option says so, and print the queues."""
    import lab

    if options.first:
        lab.open_run(options.first).move(1)
    if options.move:
        name, place = options.move
        if not place.lstrip("-").isdecimal():
            raise ValueError(f"{place!r} is no place in a queue; give a number, 1 is next.")
        lab.open_run(name).move(int(place))
    places = lab.queue()
    for place in places:
        if options.json:
            print(json.dumps({"device": place.device, "place": place.place, "run": place.run.name, "folder": str(place.run)}))
        else:
            print(f"{place.device:<12}  {place.place or 'trains':>6}  {place.run.name}")
    if not places and not options.json:
        print("No run trains or waits in a queue.")
    return 0
