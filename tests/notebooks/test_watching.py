"""What `lab.watch` sends to the front end of a notebook, and prints in a terminal."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import IPython.display
import pytest

import lab
from lab import notebook
from lab.notebook import PLOTLY
from lab.run.handle import Run
from lab.store import StoreWriter
from lab.store.readers.scalars import ScalarReader
from tests.app.conftest import fill


@dataclass
class Front:
    """A front end that remembers its messages. `then` is called after each of them."""

    messages: list[tuple[str, bool, dict[str, Any]]] = field(default_factory=list)
    then: Callable[[], None] = lambda: None

    def display(self, bundle: dict[str, Any], *, raw: bool, display_id: str, update: bool) -> None:
        assert raw
        assert update == (display_id in self.outputs), "an update of what is displayed, and nothing displayed twice"
        json.dumps(bundle)
        self.messages.append((display_id, update, bundle))
        self.then()

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """What each output holds now, in their order."""
        return {display_id: bundle for display_id, _, bundle in self.messages}

    @property
    def lines(self) -> list[str]:
        """All texts of the line about the run."""
        return [bundle["text/plain"] for _, _, bundle in self.messages if PLOTLY not in bundle]


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    """The front end of a notebook, in which `lab.watch` draws without waiting."""
    front = Front()
    monkeypatch.setattr(notebook, "_has_front_end", lambda: True)
    monkeypatch.setattr(IPython.display, "display", front.display)
    monkeypatch.setattr(notebook, "_wait", lambda run, seconds, failed: None)
    return front


def titles(front: Front) -> list[str]:
    return [bundle[PLOTLY]["layout"]["title"]["text"].split("  <")[0] for bundle in front.outputs.values() if PLOTLY in bundle]


def test_a_run_that_has_ended_shows_each_figure_once(front: Front, store_run: Callable[..., Run]) -> None:
    run = store_run("done", steps=30)
    lab.watch(run, "margins", "loss", "margins")
    assert titles(front) == ["Reward margin", "Loss"]
    assert [update for _, update, bundle in front.messages if PLOTLY in bundle] == [False, False]
    assert front.lines[-1] == "done: finished, step 30 of 30"
    assert "script" not in front.messages[-1][2]["text/html"]
    front.messages.clear()
    lab.watch("done")
    assert titles(front) == ["Loss", "Reward margin", "Log-ratios to the reference"]


def test_only_what_has_changed_is_drawn_again(front: Front, store_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = store_run("one", state="running", steps=1000, done=20)
    store, rounds = StoreWriter(run.dir), iter(range(10))

    def go_on(*_: Any) -> None:
        if (number := next(rounds)) in (3, 6):
            fill(store, "sgdpo", range(21 + number, 22 + number), 1000)
            store.status(step=21 + number)
        if number == 8:
            store.status(state="stopped")
        store.flush()

    monkeypatch.setattr(notebook, "_wait", go_on)
    lab.watch(run, "loss", "oracle")
    store.close()
    figures = [(update, bundle) for _, update, bundle in front.messages if PLOTLY in bundle]
    assert [update for update, _ in figures] == [False, False, True, True], "loss twice more, the oracle's curve never"
    redrawn = [bundle["text/html"] for _, _, bundle in front.messages if "<script>" in bundle.get("text/html", "")]
    assert len(redrawn) == 2
    sent = json.loads(redrawn[-1].split("{}), ", 1)[1].split(");\n", 1)[0])
    assert list(sent) == [next(iter(front.outputs))]
    assert next(iter(sent.values())) == figures[-1][1][PLOTLY]


def test_numbers_that_cannot_be_read_for_a_moment_do_not_end_it(
    front: Front, store_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, read, failures = store_run("one", state="running", done=20), ScalarReader.read, iter(range(100))
    monkeypatch.setattr(ScalarReader, "read", lambda *a, **k: busy() if next(failures) in (0, 1, 4) else read(*a, **k))

    def busy() -> None:
        raise sqlite3.OperationalError("database is locked")

    def go_on(*_: Any) -> None:
        store = StoreWriter(run.dir)
        store.status(step=run.step + 1, state="stopped" if run.step > 25 else "running")
        store.close()

    monkeypatch.setattr(notebook, "_wait", go_on)
    lab.watch(run, "loss")
    assert front.lines[0] == "The numbers could not be read (database is locked); trying again."
    assert titles(front) == ["Loss"]
    assert front.lines[-1].startswith("one: stopped, step ")


def test_it_ends_where_an_ended_run_cannot_be_read(
    front: Front, store_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store_run("one")

    def broken(*_: Any, **__: Any) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(ScalarReader, "read", broken)
    lab.watch(run, "loss")
    assert front.lines[-1] == "No longer watching: the run's numbers cannot be read (database disk image is malformed)."


def test_it_ends_where_the_run_is_deleted(front: Front, store_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = store_run("one", state="running", done=20)
    monkeypatch.setattr(notebook, "_wait", lambda *_: shutil.rmtree(run.dir))
    lab.watch(run, "loss")
    assert front.lines[-1] == f"No longer watching: the run's folder {run.dir} was deleted."


def test_an_interrupt_ends_the_watching_not_the_run(front: Front, store_run: Callable[..., Run]) -> None:
    run = store_run("one", state="running", done=20)

    def interrupt() -> None:
        if len(front.messages) == 3:
            raise KeyboardInterrupt

    front.then = interrupt
    lab.watch(run, "loss", "margins")
    assert front.lines[-1] == "No longer watching; one continues training (running)."
    assert run.state == "running"
    assert run.reader.events.read("request").empty


def test_a_name_that_is_no_figure_shows_nothing(front: Front, store_run: Callable[..., Run]) -> None:
    run = store_run("one")
    for wrong in ({"names": ("loss", "lost")}, {"names": (["loss", "margins"],)}, {"names": ("loss",), "every": -1}):
        with pytest.raises(ValueError, match=r"There is no figure 'lost'|is no name of a figure|is no number of seconds"):
            lab.watch(run, *wrong.pop("names"), **wrong)
    with pytest.raises(ValueError, match="no figure 'scalar:lost'"):
        lab.watch(run, "scalar:lost")
    assert front.messages == []


def test_a_scalar_may_come_later(front: Front, store_run: Callable[..., Run]) -> None:
    run = store_run("one", state="running", done=20)

    def go_on() -> None:
        with_scalar = StoreWriter(run.dir)
        with_scalar.scalars(21, {"late": 1.0})
        with_scalar.status(step=21, state="stopped")
        with_scalar.close()
        front.then = lambda: None

    front.then = go_on
    lab.watch(run, "scalar:late")
    first, last = (bundle[PLOTLY] for _, _, bundle in front.messages if PLOTLY in bundle)
    assert "Appears once" in first["layout"]["annotations"][0]["text"]
    assert last["data"][0]["name"] == "late"


def test_names_are_inert(front: Front, store_run: Callable[..., Run]) -> None:
    run = store_run("one", state="running", done=20)
    manifest = json.loads((run.dir / "run.json").read_text())
    manifest["config"]["name"] = "</script><img src=x onerror=alert(1)>"
    (run.dir / "run.json").write_text(json.dumps(manifest))

    def go_on() -> None:
        store = StoreWriter(run.dir)
        fill(store, "sgdpo", range(21, 22), 100)
        store.event(21, "warning", message="</script><img src=x>")
        store.status(step=21, state="stopped")
        store.close()
        front.then = lambda: None

    front.then = go_on
    lab.watch(run, "loss")
    for _, _, bundle in front.messages:
        html = bundle.get("text/html", "")
        assert html.count("</script>") == html.count("<script>")
        assert "<img" not in html


def test_two_watch_the_same_run(front: Front, store_run: Callable[..., Run]) -> None:
    run = store_run("one")
    threads = [threading.Thread(target=lab.watch, args=(run, "loss")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert titles(front) == ["Loss", "Loss"]
    assert len(front.outputs) == 4


def test_a_terminal_prints_the_line(store_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    lab.watch(store_run("one", steps=30), "loss")
    printed = capsys.readouterr().out
    assert printed.startswith("one: finished, step 30 of 30\n")
    assert "figure" in printed
    with pytest.raises(ValueError, match="There is no figure 'lost'"):
        lab.watch("one", "lost")


def test_figures_can_be_read_on_any_page(store_run: Callable[..., Run]) -> None:
    run, other = store_run("one"), store_run("two")
    assert run.figure("loss").layout.paper_bgcolor == "#ffffff"
    assert run.figure("loss", dark=True).layout.paper_bgcolor == "#12171d"
    assert lab.compare([run, other]).figure("loss").layout.paper_bgcolor == "#ffffff"
