"""Browsers without a screen: websocket sessions of the dashboard that ask for refreshes as Streamlit's page does."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect

STEP = re.compile(r", step ([\d,]+) of")


@dataclass
class Viewer:
    """One session on the Live page.

    Attributes:
        host: Host and port of the lab.
        cookie: The cookie header.
        seen: (time, step) of every drawing that reached the viewer, by `time.time()`.
        errors: Exceptions on the page, and a connection that ended.
        received: Bytes of all messages.
        page: Path of the page; empty for Live.
        on_message: Called with every message.
    """

    host: str
    cookie: str
    page: str = ""
    on_message: Callable[[ForwardMsg], None] | None = None
    seen: list[tuple[float, int]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    received: int = 0

    async def watch(self, seconds: float) -> None:
        """Open the page and look at it for some seconds."""
        address = f"ws://{self.host}/_stcore/stream"
        headers = {"Cookie": self.cookie, "Origin": f"http://{self.host}"}
        try:
            async with connect(address, subprotocols=["streamlit"], additional_headers=headers, max_size=None) as socket:  # type: ignore[list-item]
                await socket.send(self._request())
                async with asyncio.timeout(seconds):
                    await self._read(socket)
        except TimeoutError:
            return
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    async def _read(self, socket: Any) -> None:
        timers: dict[str, asyncio.Task[None]] = {}
        page = ""
        try:
            async for data in socket:
                self.received += len(data)
                message = ForwardMsg.FromString(data)
                kind = message.WhichOneof("type")
                if self.on_message is not None:
                    self.on_message(message)
                if kind == "new_session":
                    page = message.new_session.page_script_hash
                    if not message.metadata.run.fragment_ids:  # a drawing of the whole page sets its timers anew
                        for timer in timers.values():
                            timer.cancel()
                        timers.clear()
                elif kind == "auto_rerun":
                    rerun = message.auto_rerun
                    if old := timers.pop(rerun.fragment_id, None):
                        old.cancel()
                    timers[rerun.fragment_id] = asyncio.create_task(self._again(socket, rerun.fragment_id, rerun.interval, page))
                elif kind == "stop_auto_rerun":
                    for name in message.stop_auto_rerun.fragment_ids:
                        if old := timers.pop(name, None):
                            old.cancel()
                elif kind == "delta":
                    self._look(message)
        finally:
            for timer in timers.values():
                timer.cancel()

    def _look(self, message: ForwardMsg) -> None:
        element = message.delta.new_element
        if element.WhichOneof("type") == "exception":
            self.errors.append(element.exception.message)
        elif element.WhichOneof("type") == "text" and (step := STEP.search(element.text.body)):
            self.seen.append((time.time(), int(step[1].replace(",", ""))))

    async def _again(self, socket: Any, fragment: str, interval: float, page: str) -> None:
        while True:
            await asyncio.sleep(interval)
            await socket.send(self._request(fragment, page))

    def _request(self, fragment: str = "", page: str = "") -> bytes:
        request = BackMsg()
        state = request.rerun_script
        state.page_name = "" if page else self.page
        state.page_script_hash = page
        state.fragment_id = fragment
        state.is_auto_rerun = bool(fragment)
        state.widget_states.SetInParent()
        state.context_info.color_scheme = "light"
        state.context_info.timezone = "UTC"
        state.context_info.url = f"http://{self.host}/"
        return request.SerializeToString()
