"""The launcher behind `python -m app`: world, dashboard and demo run in one process.

    python -m app [--port 8501] [--no-demo] [--steps N] [--home DIR] [--class [--host ADDRESS]]

It builds the embedded world with a progress bar (once), serves the dashboard on this machine only, prints its address once it
listens, and starts a demo run in a background thread if there is no run yet (`--no-demo` starts none). Ctrl-C or SIGTERM stops the
runs of this process, each with a checkpoint; runs in separate processes continue and are listed.

With `--class` the lab is served to the network instead, and every request needs a token (see `app.class_access`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

ADDRESS = "127.0.0.1"
EVERY_ADDRESS = "0.0.0.0"
PATIENCE = 15.0
"""Seconds that runs have for saving a checkpoint when the dashboard is closed."""


def main(arguments: Sequence[str]) -> int:
    """Serve the dashboard until it is interrupted; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.host and not options.tokens:
        parser.error("--host needs --class: without tokens the lab is served on this machine only.")
    address = (options.host or EVERY_ADDRESS) if options.tokens else ADDRESS
    signal.signal(signal.SIGTERM, _interrupt)
    if options.home:
        os.environ["LAB_HOME"] = str(options.home.expanduser().absolute())
    try:
        require_free(options.port, address)
        from lab.cli.world import build

        build()
        print("Starting the lab ...", flush=True)
        # Imported before the server has threads: pages and demo would import it at the same time, and the first page would wait.
        import lab
        from lab import process_settings

        process_settings.postpone_collector()
        import lab.training.loop  # some seconds: torch and transformers

        process_settings.resume_collector()
        if options.tokens:
            lab.open_pairs("world").close()  # so that no page of a watching browser makes it

        serve(options.port, demo_steps=None if options.no_demo else options.steps, address=address, tokens=options.tokens)
    except KeyboardInterrupt:
        print("The lab is closed.", flush=True)
        return 0
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m app", description="Serve the dashboard; start a demo run if no run exists.")
    p.add_argument("--port", type=int, default=8501, metavar="N", help="port on this machine (default: 8501)")
    p.add_argument("--no-demo", action="store_true", help="start no demo run; else one starts where there is no run yet")
    p.add_argument("--steps", type=int, default=2000, metavar="N", help="steps of the demo run (default: 2000)")
    p.add_argument(
        "--home", type=Path, metavar="DIR", help="folder of runs and pair stores (default: $LAB_HOME, or your data folder)"
    )
    p.add_argument(
        "--class",
        dest="tokens",
        action="store_true",
        help="serve the lab to a room: on the network, to browsers with one of two links (to watch, to edit)",
    )
    p.add_argument("--host", metavar="ADDRESS", help="with --class: address to serve on (default: every one of this machine)")
    return p


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def require_free(port: int, address: str = ADDRESS) -> None:
    """Raise OSError with one sentence if the port cannot be used on an address of this machine."""
    if not 1 <= port <= 65535:
        raise OSError(f"There is no port {port}; choose one from 1 to 65535, for example --port 8501.")
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just given free is free
        try:
            probe.bind((address, port))
        except OSError as error:
            if address not in (ADDRESS, EVERY_ADDRESS) and error.errno != errno.EADDRINUSE:
                raise OSError(f"The lab cannot be served on {address} ({error.strerror}); give one of this machine's.") from None
            raise OSError(
                f"Port {port} cannot be used ({error.strerror}): close what uses it (another lab?), or choose another with --port."
            ) from None


def serve(port: int, *, demo_steps: int | None, address: str = ADDRESS, tokens: bool = False) -> None:
    """Run the dashboard until a signal ends it.

    Args:
        port: Port on this machine.
        demo_steps: Steps of the demo run that starts if there is no run yet; None starts none.
        address: Address of this machine to serve on.
        tokens: Whether every request needs a token; the links with the tokens are printed.
    """
    from streamlit import config

    script = Path(__file__).with_name("main.py")
    # Before the options are read for the first time: its folder's .streamlit/config.toml belongs to them, as for `streamlit run`.
    config._main_script_path = str(script)
    sys.argv = [str(script)]  # `App.run` looks for that folder beside the program that was started
    import streamlit as st

    from app.fixed_files import MIDDLEWARE, warm
    from app.serving import routes

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        threading.Thread(target=warm, name="warm", daemon=True).start()
        # The socket listens already when the server calls this.
        print(links or f"The lab is at http://{address}:{port}", flush=True)
        if demo_steps is not None:
            threading.Thread(target=_start_demo, args=(demo_steps, tokens), name="demo", daemon=True).start()
        try:
            yield
        finally:
            await asyncio.to_thread(stop_runs)

    logging.disable(logging.INFO)  # the server's own messages at its start
    options = {"server.port": port, "server.address": address, "server.headless": True, "logger.hideWelcomeMessage": True}
    middleware, links = MIDDLEWARE, ""
    if tokens:
        guard, links, more = _class_access(address, port)
        middleware, options = [guard, *MIDDLEWARE], options | more
    app = st.App(script, routes=routes(), middleware=middleware, lifespan=lifespan)
    for name, value in options.items():
        config.set_option(name, value)  # else `run` warns of options that changed while the server was up
    app.run(config=options)


def _class_access(address: str, port: int) -> tuple[Any, str, dict[str, Any]]:
    """Draw the tokens of a class lab; return its middleware, the text with the links, and its options of the server."""
    from starlette.middleware import Middleware

    from app.class_access import ClassAccess, invitation, machine_address
    from app.fixed_files import base_path
    from app.state.access import Tokens, serve_with

    tokens = Tokens.new(port)
    serve_with(tokens)
    host = machine_address() if address in (EVERY_ADDRESS, "::") else address
    # Any name of this machine may be in a browser's address: the cookie, which belongs to one name, is what is checked.
    options: dict[str, Any] = {"browser.serverAddress": host, "server.allowedHosts": []}
    return Middleware(ClassAccess, tokens=tokens), invitation(tokens, host, port, base_path()), options


def _start_demo(steps: int, apart: bool) -> None:
    from app.demo import start_demo

    try:
        start_demo(steps, executor="process" if apart else "thread")  # a room of pages would hold up a thread
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: The demo run could not be started: {' '.join(str(error).split())}", file=sys.stderr, flush=True)


def stop_runs(patience: float = PATIENCE) -> None:
    """Stop every run of this process, and wait up to `patience` seconds for their checkpoints."""
    import lab
    from lab.store import ENDED, RunError
    from lab.training.lifecycle import trained_here

    live = runs_here()
    for run in lab.runs():
        if run.status.get("executor") == "process" and run.state not in ENDED:
            print(f"{run.name} continues in its separate process.", flush=True)
    if live:
        print(f"Saving {', '.join(run.name for run in live)} ...", flush=True)
    for run in live:
        with contextlib.suppress(RunError):  # it has just ended
            run.stop()
    deadline = time.monotonic() + patience
    for run in live:
        state = run.wait(max(0.0, deadline - time.monotonic()))
        print(f"{run.name}: {state} at step {run.step}", flush=True)
    while trained_here() and time.monotonic() < deadline:  # a run's state changes a moment before its thread ends
        time.sleep(0.05)


def runs_here() -> list[Any]:
    """Return handles of the runs that train in a thread of this process."""
    import lab
    from lab.training.lifecycle import trained_here

    return [lab.open_run(folder) for folder in trained_here()]
