"""What a browser with the watching link cannot do: every change is refused in Python, whatever a page shows."""

from __future__ import annotations

import ast
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.pages import COMPARE, EXPERIMENTS, GUIDE, INSPECT, LEARN, LIVE, NEW_RUN, PAIRS, RUNS, Page
from app.state import access
from app.state.access import WHY, Tokens, WatchOnlyError
from app.state.jobs import Job
from app.views.experiments import acting as experiment_acting
from app.views.experiments import deleting as experiment_deleting
from app.views.inspect import what_if
from app.views.live import change_and_branch, controls, findings
from app.views.runs import acting
from app.widgets.pairs import text_editor
from lab import home
from lab.experiments import Driver, open_experiment
from lab.pairs import PairStore, open_pairs
from lab.run.handle import Run
from tests.app.pages import open_page, page_text
from tests.experiments.faked import WrittenRuns, content, folder_with

APP = Path(access.__file__).parents[1]
TOKENS = Tokens.new(8501)


@pytest.fixture
def as_role(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """as_role("watch") gives all pages the cookie of the watching link."""

    def give(role: str) -> None:
        monkeypatch.setattr(access, "_cookies", lambda: {TOKENS.cookie: getattr(TOKENS, role)})
        access.serve_with(TOKENS)

    yield give
    access.serve_with(None)


@pytest.fixture
def store() -> PairStore:
    rows = [{"prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(4)]
    pairs = open_pairs(rows, home=home.home() / "pairs", name="mine")
    pairs.swap(pairs.ids()[1])  # there is something to undo
    pairs.swap(pairs.ids()[2])
    pairs.undo()  # and something to redo
    return pairs


@pytest.fixture
def lab_in_use(store: PairStore, store_run: Callable[..., Run]) -> PairStore:
    """A home with runs in several states and a pair set."""
    pairs = store.path.stem
    for name, state in (("lives", "running"), ("waits", "queued"), ("ended", "stopped")):
        run = store_run(name, state=state, steps=40, pairs=pairs)
        run.tag("mine")
        (run.dir / "checkpoints" / "step-000010").mkdir(parents=True, exist_ok=True)
    store_run("deleted", steps=2).delete()
    experiment("grid")
    return store


def experiment(name: str) -> None:
    """Make an experiment of which one run has failed and another has finished."""
    folder = folder_with(content(["dpo", "sgdpo"], 1, steps=5), name)
    executor = WrittenRuns()
    executor.ends[folder.read().runs[0].key] = "failed"
    Driver(folder, executor).run()


def contents(folder: Path) -> dict[str, str]:
    """Return what every file in a folder holds; of databases their rows, because readers may merge a log into one."""
    known = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name.endswith(("-wal", "-shm")):
            continue
        if path.suffix in (".sqlite", ".db"):
            with closing(sqlite3.connect(path)) as db:
                tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'search_index%' ORDER BY name"
                rows = [(name, db.execute(f'SELECT * FROM "{name}"').fetchall()) for (name,) in db.execute(tables).fetchall()]
            data = repr(rows).encode()  # without the index of the search, which is built from the rows
        else:
            data = path.read_bytes()
        known[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return known


def enabled(app: AppTest) -> list[str]:
    """Return a name for every button that can be clicked."""
    return [button.key or button.label for button in app.button if not button.disabled]


def opened(page: Page, session: dict[str, str] | None = None, **query: str) -> AppTest:
    """Open a page; Live as the first page, because Streamlit's test page loses clicks on a default page that it switched to."""
    return open_page(None if page is LIVE else page, session=session, **query)


def press_all(page: Page, session: dict[str, str] | None = None, **query: str) -> list[str]:
    """Open a page and click every enabled button once, also those that appear by a click; return the clicked ones."""
    clicked: list[str] = []
    app = opened(page, session, **query)
    while left := [name for name in enabled(app) if name not in clicked]:
        clicked.append(left[0])
        next(button for button in app.button if (button.key or button.label) == left[0]).click().run()
        assert not app.exception, (left[0], app.exception)
        if not enabled(app):  # the click opened another page
            app = opened(page, session, **query)
    return clicked


PLACES: list[tuple[Page, dict[str, Any], dict[str, str]]] = [
    *((LIVE, {}, {"run": name}) for name in ("lives", "waits", "ended")),
    (LIVE, {"live-tab": "Pairs"}, {"run": "lives"}),
    *((INSPECT, {"inspect.tab": tab}, {"run": "ended", "pair": "pair-001"}) for tab in ("History", "What if", "Virtual step")),
    *((COMPARE, {"part": part}, {}) for part in ("curves", "twins")),
    (NEW_RUN, {}, {}),
    *((EXPERIMENTS, {}, query) for query in ({}, {"new": "yes"}, {"experiment": "grid"}, {"new": "yes", "from": "grid"})),
    *((RUNS, {"runs.ticked": ["ended"], "runs.asked": form, "trash": True}, {"run": "ended"}) for form in ("tag", "delete")),
    (PAIRS, {}, {}),
    (GUIDE, {}, {}),
    *((LEARN, {}, {"view": view}) for view in ("field", "batch", "pilots", "degrees")),
]
"""Pages with values of their session and parameters of their address."""


@pytest.mark.extended
def test_clicks_of_a_watching_browser_change_nothing(lab_in_use: PairStore, as_role: Callable[[str], None]) -> None:
    as_role("watch")
    before = contents(home.home())
    assert len(before) > 8
    for page, session, query in PLACES:
        of_pairs = {"pairs": lab_in_use.path.name, "pair": lab_in_use.ids()[1]} if page is PAIRS else {}
        clicked = press_all(page, session, **query, **of_pairs)
        assert contents(home.home()) == before, (page.title, session, query, clicked)


@pytest.mark.parametrize("page", [LIVE, NEW_RUN, EXPERIMENTS, RUNS, PAIRS], ids=lambda page: page.path)
def test_pages_tell_why_a_watching_browser_cannot_change_things(
    page: Page, lab_in_use: PairStore, as_role: Callable[[str], None]
) -> None:
    as_role("watch")
    app = opened(page, **({"pairs": lab_in_use.path.name} if page is PAIRS else {}))
    assert WHY in page_text(app)
    assert not {"Pause", "Stop", "Start the run", "Undo", "Redo"} & set(enabled(app))


def test_the_editing_link_allows_what_the_watching_link_does_not(lab_in_use: PairStore, as_role: Callable[[str], None]) -> None:
    as_role("edit")
    before = contents(home.home())
    app = open_page(PAIRS, pairs=lab_in_use.path.name, pair=lab_in_use.ids()[1])
    assert WHY not in page_text(app)
    next(button for button in app.button if button.label == "Undo").click().run()
    assert contents(home.home()) != before
    before = contents(home.home())
    app = open_page(run="lives")
    next(button for button in app.button if button.label == "Pause").click().run()
    assert contents(home.home()) != before


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("the action began")


ACTIONS: dict[str, Callable[[Run, PairStore], Any]] = {
    "pause": lambda run, _: controls.pause_or_resume(run),
    "resume": lambda run, _: controls.resume_from_checkpoint(run),
    "set, checkpoint, edits": lambda run, _: change_and_branch._send(never, ""),
    "thresholds": lambda run, _: findings._keep(run),
    "save a what-if": lambda _, store: what_if._save(store, store[0], store[1]),
    "undo": lambda _, store: what_if._undo(store, store[1]),
    "take edits": lambda run, _: what_if._take(run),
    "save a pair": lambda _, store: text_editor._save(store, store[0], {}, {}, never),
    "archive a run": lambda run, _: acting.act(never),
    "pause an experiment": lambda *_: experiment_acting.request(open_experiment("grid"), "pause"),
    "start an experiment": lambda *_: experiment_acting.begin(open_experiment("grid")),
    "delete an experiment": lambda *_: experiment_deleting.delete(open_experiment("grid"), True),
    "rename an experiment": lambda *_: experiment_deleting.rename(open_experiment("grid"), "other"),
    "extend an experiment": lambda *_: experiment_acting.extend(open_experiment("grid"), 2, None),
    "any job": lambda *_: Job(never),
}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_actions_are_refused_without_any_page(
    action: Callable[[Run, PairStore], Any], store: PairStore, store_run: Callable[..., Run], as_role: Callable[[str], None]
) -> None:
    run = store_run("lives", state="running", pairs=store.path.stem)
    experiment("grid")
    as_role("watch")
    before = contents(home.home())
    with pytest.raises(WatchOnlyError):
        action(run, store)
    assert contents(home.home()) == before


CHANGES = {
    "pause", "resume", "stop", "checkpoint", "take_edits", "set", "move", "delete",
    "edit", "swap", "drop", "restore", "undo", "redo",
    "add", "apply", "duplicate", "merge", "split", "snapshot", "update_from", "import_pairs", "apply_remedy",
    "rename", "tag", "untag", "note", "archive", "unarchive", "empty_trash",
    "put_numbers", "put_findings", "forget_numbers", "suspects",
    "sweep", "store_declaration", "start_driver", "delete_experiment", "rename_experiment",
    "train", "train_twin", "train_twins", "export_run", "preflight", "examine", "store_upload", "write_thresholds",
}  # fmt: skip
"""Names of everything in the library, and in the pages, that changes a run, a pair set or a file, or loads a model."""

CHANGED = {"run", "handle", "store", "lab", "api", "experiment", "sweeping"}
"""Names of what has such methods; a column of a table may be called `drop` as well."""

GUARDS = {"require_edit", "_send", "_act", "act", "act_or_redraw", "acted", "Job", "StepJob"}
"""Calls that check the role."""

CHECKED_BY_CALLER = {
    ("views/new_run/check.py", "look_ahead"),  # the work of a Job
    ("views/new_run/new_run.py", "_start"),  # the work of a Job
    ("views/experiments/starting.py", "_start"),  # the work of a Job
    ("widgets/twins_form.py", "start"),  # the work of a Job
    ("widgets/twins_form.py", "_one_more"),  # the work of a Job
    ("views/pairs/pairs.py", "_set_actions"),  # hands its changes to _step, which calls _act
    ("views/new_run/uploads.py", "store_upload"),  # its callers ask
    ("views/pairs/changes.py", "_snapshots"),  # hands its change to act
    ("views/pairs/review.py", "_fields"),  # hands its changes to _written, which calls act
    ("views/pairs/review.py", "_tag"),  # called by _written
    ("views/runs/opened.py", "_retag"),  # called by act
    ("widgets/import_form/importing.py", "import_source"),  # the work of a Job
    ("widgets/pairs/pair_actions.py", "change_buttons"),  # hands its changes to act
    ("widgets/pairs/pair_actions.py", "_labelled"),  # called by act
    ("widgets/pairs/pair_actions.py", "show_findings"),  # hands its changes to act
    ("state/evidence.py", "_keep"),  # part of the work of a Job, and of functions that ask
    ("state/evidence.py", "_check"),  # the work of a Job
    ("state/evidence.py", "_search"),  # the work of a Job
}


def called(node: ast.AST) -> str:
    function = node.func if isinstance(node, ast.Call) else None
    return function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""


def changing(function: ast.FunctionDef) -> set[str]:
    """Return the names of changes that a function calls or hands on."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] in CHANGED:
            names |= {node.attr} & CHANGES
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names |= {node.func.id} & (CHANGES - {"set", "apply", "split", "add"})
    return names


def test_every_function_of_the_pages_that_changes_something_checks_the_role() -> None:
    unguarded, guarded = [], set()
    for path in sorted([path for part in ("views", "widgets", "state") for path in (APP / part).rglob("*.py")]):
        for function in ast.parse(path.read_text()).body:
            if not isinstance(function, ast.FunctionDef) or not (names := changing(function)):
                continue
            place = (str(path.relative_to(APP)), function.name)
            if place in CHECKED_BY_CALLER or GUARDS & {called(node) for node in ast.walk(function)}:
                guarded.add(place)
            else:
                unguarded.append((*place, names))
    assert unguarded == []
    assert guarded > CHECKED_BY_CALLER  # none of those is out of date
