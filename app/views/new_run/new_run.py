"""New run: a form made from the library's declarations, which validates every setting before a run starts."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import streamlit as st

import lab
from app.pages import COMPARE, LIVE, NEW_RUN
from app.state import pair_sets
from app.state.access import WHY, may_edit, require_edit
from app.state.jobs import Job, require
from app.state.navigation import leave_for
from app.state.recipe import Start, Verdict, as_command, as_python, build_objective, judge
from app.text.labels import objective_label
from app.text.plain import plain
from app.views.new_run import check
from app.views.new_run.uploads import store_upload
from app.widgets import twins_form
from app.widgets.forms import grid, objective_fields, widget
from app.widgets.formula import draw_formula
from app.widgets.import_form.uploads import MEGABYTES, PACKED, TYPES
from lab import api
from lab.api import Executor
from lab.diagnosis.checks import number
from lab.objectives import OBJECTIVES, Objective, Preset, annotation_use
from lab.pairs import PairsError, RefusedRows, is_store
from lab.pairs.importing import OnError
from lab.progress import StageProgress
from lab.run.config import TrainConfig
from lab.run.handle import Run
from lab.training.setup.executor_choice import choose_executor
from lab.world import is_world_name

PAPERS = ("sgdpo", "alpha_dpo", "spo")
NEXT = ("dpo", "simpo")
BASICS = ("steps", "batch_size", "micro_batch_size", "learning_rate")
ELSEWHERE = ("objective", "pairs", "pairs_version", "model", "name")
"""Settings with fields outside the section Training."""
ADAPTER = ("lora_alpha", "lora_dropout", "lora_targets")
LAB_DEFAULTS = "lab defaults"
OTHER = "other"
NO_TWIN = "none"
EXECUTORS: dict[Executor, tuple[str, str]] = {
    "auto": (
        "Automatic",
        "A separate process for models of more than 100 million parameters, or whose weights, gradients and optimizer take more "
        "than a tenth of the memory; otherwise a background thread.",
    ),
    "thread": (
        "Background thread",
        "Stops with a checkpoint when the dashboard is closed; Resume continues the run.",
    ),
    "process": (
        "Separate process",
        "For long runs: continues when the dashboard is closed, and is not slowed down by it. Takes some seconds to start.",
    ),
}
"""Label and explanation of each executor."""


def page() -> None:
    """Draw the whole page."""
    title, reset = st.columns([5, 2], vertical_alignment="center")
    title.title("New run")
    if not may_edit():
        st.info(WHY)
        return
    if reset.button(
        "Reset to defaults",
        icon=":material/restart_alt:",
        width="stretch",
        help="Forget everything that was entered on this page. Otherwise it stays, also while other pages are shown.",
    ):
        _reset()
        leave_for(NEW_RUN, {})  # else the fields in the browser would go on showing what was entered
    _follow_start()
    left, right = st.columns([7, 4], gap="large")
    with left:
        spec, preset, key = _objective_section()
        pairs, version, model = _material_section()
        settings = _settings_section(preset, key)
    with right, st.container(border=True):
        st.subheader("Start")
        name_field = TrainConfig.model_fields["name"]
        name = widget("name", name_field, name_field.default, "setting.name")
        start = _executor_section()
        verdict = judge(spec, {**settings, "pairs": pairs, "pairs_version": version, "model": model, "name": name})
        _verdict_section(verdict, start)
    if verdict.config:
        with st.expander("The same run from the command line or a notebook"):
            st.code(as_command(verdict.config, start), language="bash", wrap_lines=True)
            st.code(as_python(verdict.config, start), language="python", wrap_lines=True)


def _reset() -> None:
    """Forget everything that was entered, so that every field has its default again."""
    own = ("preset.", "setting.", "start.", "upload.", *(f"{name}." for name in OBJECTIVES))
    single = ("objective", "pairs", "pairs.path", "model", "model.path", "twin", "check")
    for key in [str(key) for key in st.session_state]:
        if key in single or key.startswith(own):
            del st.session_state[key]


def _objective_section() -> tuple[dict[str, Any], Preset | None, str]:
    """Draw objective and parameters; return the specification, the preset, and a key that changes with both."""
    st.subheader("Objective")
    order = [*PAPERS, *NEXT, *sorted(set(OBJECTIVES) - {*PAPERS, *NEXT})]
    one, other = st.columns([3, 2])
    name = one.selectbox("Objective", order, format_func=objective_label, key="objective", persist_state="session")
    kind = OBJECTIVES[name]
    chosen = other.selectbox("Preset", [LAB_DEFAULTS, *kind.presets], key=f"preset.{name}", persist_state="session")
    preset = kind.presets.get(chosen)
    formula = st.container()
    st.caption(plain(f"{kind.source}. Values: {preset.source}." if preset else f"{kind.source}."))
    key = f"{name}.{chosen}"
    spec = {"name": name, **objective_fields(kind, preset.parameters if preset else {}, key)}
    if objective := _described(spec):
        with formula:
            draw_formula(objective)
        st.caption(plain(annotation_use(objective)))
    return spec, preset, key


def _described(spec: dict[str, Any]) -> Objective | None:
    """Return the objective of a specification, with its defaults where the values are refused; None where these are too."""
    for candidate in (spec, {"name": spec["name"]}):
        with suppress(ValueError):
            return build_objective(candidate)
    return None


def _material_section() -> tuple[str, str, str]:
    """Draw the choice of pairs, their version, and model; return the three."""
    st.subheader("Pairs and model")
    one, other = st.columns(2)
    stored = pair_sets.stored_sets()
    pair_sets.resend_label("pairs")
    with one:
        key = st.selectbox(
            "Pairs",
            [*pair_sets.WORLDS, *stored, OTHER],
            format_func=lambda k: "a file, a data set of the hub, or a database" if k == OTHER else pair_sets.label(k),
            key="pairs",
            persist_state="session",
        )
        if key == OTHER:
            pairs = st.text_input("Path, owner/name, or postgresql:// address", key="pairs.path", persist_state="session").strip()
        else:
            pairs = stored.get(key, key)
        version_field = TrainConfig.model_fields["pairs_version"]
        version = widget("pairs_version", version_field, version_field.default, "setting.pairs_version")
    with other:
        which = st.selectbox(
            "Model",
            [*pair_sets.WORLDS, OTHER],
            format_func=lambda k: "a folder, a GGUF file, or a model of the hub" if k == OTHER else pair_sets.label(k),
            key="model",
            persist_state="session",
        )
        model = which
        if which == OTHER:
            model = st.text_input("Folder, GGUF file, or owner/name", key="model.path", persist_state="session").strip()
    with st.expander("Upload pairs"):
        st.file_uploader(
            "JSON Lines, JSON, CSV, TSV or Parquet, packed or not; Pairs, Import shows which columns are read as what",
            type=[*TYPES, *PACKED],
            key="upload",
            on_change=_take_upload,
            max_upload_size=MEGABYTES,
        )
        if refused := st.session_state.get("upload.error"):
            st.error(plain(refused))
            if st.session_state.get("upload.refused") and st.session_state.get("upload") is not None:
                st.button("Import the good ones", on_click=_take_upload, args=("skip",))
        if taken := st.session_state.get("upload.taken"):
            st.success(plain(taken))
    return pairs, version, model


def _take_upload(on_error: OnError = "refuse") -> None:
    """Store the uploaded file and choose it."""
    require_edit()
    file = st.session_state["upload"]
    st.session_state["upload.error"] = st.session_state["upload.taken"] = ""
    st.session_state["upload.refused"] = False
    if file is None:
        return
    try:
        store, report = store_upload(file.name, file.getvalue(), on_error)
    except PairsError as error:
        st.session_state["upload.error"] = str(error)
        st.session_state["upload.refused"] = isinstance(error, RefusedRows) and error.report.read > 0
        return
    st.session_state["pairs"] = pair_sets.key(store.location)
    st.session_state["upload.taken"] = " ".join([f"{len(store)} pairs are stored and chosen.", report.warning()]).strip()


def _settings_section(preset: Preset | None, key: str) -> dict[str, Any]:
    """Draw every other field of `TrainConfig`, without adapter settings if there is no adapter; return the values."""
    st.subheader("Training")
    fields = {name: f for name, f in TrainConfig.model_fields.items() if name not in ELSEWHERE}
    defaults = {name: field.default for name, field in fields.items()}
    if preset and preset.learning_rate:
        defaults["learning_rate"] = preset.learning_rate
    # The learning rate belongs to the preset: another preset has its own.
    values = grid({name: fields[name] for name in BASICS}, defaults, f"setting.{key}" if preset else "setting", len(BASICS))
    with st.expander("More settings"):
        rank = st.session_state.get("setting.lora_rank", 0)
        rest = [name for name in fields if name not in BASICS and (rank or name not in ADAPTER)]
        return values | grid({name: fields[name] for name in rest}, defaults, "setting")


def _executor_section() -> Start:
    """Draw executor and queue; return both."""
    executor = st.radio(
        "Runs in",
        list(EXECUTORS),
        format_func=lambda key: EXECUTORS[key][0],
        captions=[caption for _, caption in EXECUTORS.values()],
        key="start.executor",
        persist_state="session",
    )
    busy = [place for place in lab.queue() if place.place == 0]
    queue = st.toggle(
        "Queue",
        value=True,
        key="start.queue",
        persist_state="session",
        help="`queue`: wait until no other run trains on the same device; Live shows the order and can change it. Off: the run "
        "starts at once, and runs on the same device slow each other down.",
    )
    for place in busy if queue else []:
        st.caption(plain(f"{place.run.name} trains on {place.device}; a run on the same device waits until it has ended."))
    return Start(executor, queue)


def _verdict_section(verdict: Verdict, start: Start) -> None:
    """Draw errors and warnings, the check, and the button that starts the run."""
    if verdict.config:
        st.text(_amount(verdict.config))
        if start.executor == "auto":
            st.caption(plain(choose_executor(verdict.config).reason))
    for message in verdict.warnings:
        st.warning(plain(message))
    if verdict.refusal:
        st.error(plain(verdict.refusal))
    config = verdict.config
    check.section(config, verdict.warnings)
    twin = st.selectbox(
        "Twin with another objective",
        [NO_TWIN, *(name for name in sorted(OBJECTIVES) if config is None or name != config.objective.name)],
        key="twin",
        persist_state="session",
        help="Trains a second run after this one: same start, same batches in the same order, this objective with the lab's "
        "values. Compare shows both, pair by pair.",
    )
    label = "Start the run" if twin == NO_TWIN else "Start the twins"
    if st.button(label, type="primary", disabled=config is None, width="stretch") and config:
        if twin == NO_TWIN:
            st.session_state["starting"] = Job(lambda progress: _start(config, start, progress))
        else:
            st.session_state["starting"] = Job(lambda progress: _start_twins(config, twin, start, progress))
        st.rerun()


def _amount(config: TrainConfig) -> str:
    """Describe the amount of training: steps, pairs and epochs."""
    message = f"{config.steps:,} steps of {config.batch_size:,} pairs"
    size = _size(config.pairs)
    return f"{message}: {number(config.steps * config.batch_size / size)} epochs of {size:,} pairs." if size else f"{message}."


def _size(source: str) -> int:
    """Return the number of pairs in a set that is available already, or 0."""
    if is_store(source):
        return len(pair_sets.open_set(source))
    world = pair_sets.opened_world(source) if is_world_name(source) else None
    return len(world.store) if world else 0


def _start(config: TrainConfig, start: Start, progress: StageProgress) -> Run:
    """Build the embedded worlds that the run needs, then start training in the background."""
    pair_sets.await_worlds((config.pairs, config.model), progress)
    progress("reading the pairs", 1.0)
    return api.train(**config.model_dump(mode="json"), executor=start.executor, queue=start.queue, progress=progress)


def _start_twins(config: TrainConfig, twin: str, start: Start, progress: StageProgress) -> list[str]:
    """Start the run and its twin; return the names of their folders."""
    settings = config.model_dump(mode="json", exclude={"objective"})
    return twins_form.start([config.objective, twin], progress, executor=start.executor, queue=start.queue, **settings)


def _follow_start() -> None:
    """Draw the progress of starting a run, then open the run's page."""
    job: Job[Run | list[str]] | None = st.session_state.get("starting")
    if job is None:
        return
    if job.error is not None:  # it stays on the page until the next start
        st.error(plain(f"The run could not be started: {job.error}"))
        return
    run = require(job, retry=lambda: None)
    del st.session_state["starting"]
    if isinstance(run, list):
        leave_for(COMPARE, {"runs": ",".join(run)})
    else:
        leave_for(LIVE, {"run": run.dir.name})


page()
