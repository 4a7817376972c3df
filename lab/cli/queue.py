"""`python -m lab queue`: who trains on which device, who waits for it, and in which order."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add(commands: Any) -> None:
    """Declare the command."""
    p = commands.add_parser(
        "queue",
        help="who trains, who waits; change the order",
        description="On every device one run trains at a time; the others wait. `show RUN --stop` takes a run out.",
    )
    p.add_argument("--json", action="store_true", help="one JSON object a line")
    change = p.add_mutually_exclusive_group()
    change.add_argument("--first", metavar="RUN", help="let a waiting run be the next to train")
    change.add_argument("--move", nargs=2, metavar=("RUN", "PLACE"), help="put a waiting run at a place; 1 is next")
    p.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Change the order if asked to; print the queues."""
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
