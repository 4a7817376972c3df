"""The findings about a run, with their numbers, thresholds and the pairs that cause them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from app.pages import INSPECT
from app.state.access import may_edit, require_edit
from app.state.shared import shared
from app.text.plain import plain, table
from app.views.live import controls
from app.widgets import notifying
from app.widgets.forms import widget
from lab.diagnosis import CHECKS, CheckResult, Diagnosis, Thresholds, read_thresholds, run_checks, select_findings, write_thresholds
from lab.run.handle import Run
from lab.store import ENDED, RunError

ICONS = {"notice": ":material/info:", "warning": ":material/warning:", "error": ":material/error:"}

PATIENCE = 10.0
"""Seconds after which the checks of a live run are repeated: findings do not change from step to step."""

NAMED = 2
"""Findings named in the folded line."""

SHOWN_WARNINGS = 3
"""Warnings of the run itself that are shown in full."""

KEPT = "diagnosis.thresholds"
"""In the session: the thresholds set here, by folder name of the run."""


@dataclass(frozen=True)
class CachedChecks:
    """The cached result of the checks.

    Attributes:
        key: Run, requested step and thresholds.
        at: The step that was checked.
        taken: Time of the check, by `time.monotonic()`.
        seen: Result of each check.
    """

    key: tuple[str, int | None, Thresholds]
    at: int
    taken: float
    seen: Mapping[str, CheckResult]


def section(run: Run, step: int | None, warned: Mapping[str, int] | None = None) -> None:
    """Draw the findings at a step (None: now) and the warnings on one line that opens, and the notification switch.

    warned: warnings of the run itself, with the step of each.
    """
    name, warned = run.dir.name, warned or {}
    try:
        limits = thresholds_of(run)
    except RunError as error:
        st.warning(plain(str(error)))
        limits = Thresholds()
    result = _check(run, step, limits)
    findings = select_findings(result.seen, result.at, limits)
    with st.container(horizontal=True, vertical_alignment="top"):
        # A closed list is empty: its lines are neither sent nor drawn.
        box = st.expander(headline(findings, warned), icon=_icon(findings, warned), key=f"checks-{name}", on_change="rerun")
        notifying.button(name, notifying.news(run))
    if not box.open:
        return
    with box:
        for finding in findings:
            _finding(run, finding, limits)
        _warnings(warned)
        _all_checks(result.seen)
        _other_thresholds(run, limits, {one.kind for one in findings})


def headline(findings: Sequence[Diagnosis], warned: Mapping[str, int]) -> str:
    """Return the folded line: the count of findings and warnings, and the titles of the first."""
    if not findings and not warned:
        return f"No trouble found ({len(CHECKS)} checks)"
    counts = [(len(findings), "finding"), (len(warned), "warning")]
    counted = ", ".join(f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count)
    named = "; ".join(plain(CHECKS[one.kind].title) for one in findings[:NAMED])
    return f"**{counted}**" + (f": {named}" if named else "") + (" ..." if len(findings) > NAMED else "")


def _icon(findings: Sequence[Diagnosis], warned: Mapping[str, int]) -> str:
    severities = {one.severity for one in findings} | ({"warning"} if warned else set())
    return next(
        (ICONS[severity] for severity in ("error", "warning", "notice") if severity in severities), ":material/stethoscope:"
    )


def _warnings(warned: Mapping[str, int]) -> None:
    """Draw the latest warnings of the run, the newest last."""
    for message, step in list(warned.items())[-SHOWN_WARNINGS:]:
        st.warning(plain(f"Step {step:,}: {message}" if step else message), icon=ICONS["warning"])
    if len(warned) > SHOWN_WARNINGS:
        st.caption(f"{len(warned) - SHOWN_WARNINGS} earlier warnings are marked at the foot of the curves.")


def thresholds_of(run: Run) -> Thresholds:
    """Return the thresholds set in this session, else those kept with the run. Raises RunError if their file is damaged."""
    kept: dict[str, Thresholds] = st.session_state.setdefault(KEPT, {})
    return kept[run.dir.name] if run.dir.name in kept else read_thresholds(run.dir)


def _check(run: Run, step: int | None, limits: Thresholds) -> CachedChecks:
    """Return the result of the checks at a step, cached for a moment."""
    key = (run.dir.name, step, limits)
    last = st.session_state.get("diagnosis")
    now, at = time.monotonic(), run.step if step is None else step
    if (
        isinstance(last, CachedChecks)
        and last.key == key
        and (last.at == at or now - last.taken < PATIENCE)
        and run.state not in ENDED
    ):
        return last
    if isinstance(last, CachedChecks) and last.key == key and last.at == at and step is not None:
        return last
    check = lambda: run_checks(run.reader, step=step, thresholds=limits)  # noqa: E731
    result = CachedChecks(key, at, now, shared(("checks", run.dir, step, limits.model_dump_json(), run.state), check, PATIENCE))
    st.session_state["diagnosis"] = result
    return result


def _finding(run: Run, one: Diagnosis, limits: Thresholds) -> None:
    box = {"notice": st.info, "warning": st.warning, "error": st.error}[one.severity]
    with st.container(horizontal=True, vertical_alignment="center"):
        box(plain(one.message), icon=ICONS[one.severity])
        why = st.popover("Why", key=f"why-{run.dir.name}-{one.kind}")
    with why:
        st.markdown(f"**{plain(CHECKS[one.kind].title)}**, after step {one.step:,}")
        _numbers(one.numbers)
        _threshold_widgets(run, one.kind, limits)
        _pairs(run, one)
    if one.change is not None:
        _without_change(run, one.kind, one.change)


def _without_change(run: Run, kind: str, after: int) -> None:
    """Draw the button that resumes an ended run without the change that caused a finding."""
    state = run.state
    clicked = st.button(
        f"Resume without the change at step {after:,}",
        icon=":material/undo:",
        key=f"without-{run.dir.name}-{kind}",
        disabled=state not in ENDED or run.dir.name in controls.JOBS or not may_edit(),
        help="Go back to the last checkpoint from before the change and continue as if it had never been made. What was trained "
        "since then is discarded." + ("" if state in ENDED else " Stop the run first."),
    )
    if clicked:
        controls.resume_from_checkpoint(run, without_change=after)
        st.rerun(scope="app")


def _numbers(numbers: Mapping[str, float]) -> None:
    """Draw the numbers as a small table."""
    if numbers:
        st.markdown(table(("what", "value"), [(what, _written(value)) for what, value in numbers.items()]))


def _written(value: float) -> str:
    """Format a number with all digits of its integer part."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _pairs(run: Run, one: Diagnosis) -> None:
    """Draw links to the pairs that cause a finding, the worst first."""
    if not one.pairs:
        return
    st.caption("Pairs that cause it, the worst first")
    for pair in one.pairs:
        place = {"run": run.dir.name, "pair": pair, "step": str(one.step)}
        st.page_link(INSPECT.file, label=plain(pair), icon=":material/search:", query_params=place)


def _all_checks(seen: Mapping[str, CheckResult]) -> None:
    """Draw a table of every check with its present state."""
    rows = []
    for kind, one in seen.items():
        state = "finding" if one.message else "not yet" if one.missing else "fine"
        numbers = one.missing or ", ".join(f"{what} {_written(value)}" for what, value in one.numbers.items())
        rows.append((CHECKS[kind].title, state, numbers))
    st.markdown(table((f"All {len(CHECKS)} checks", "state", "numbers"), rows))


def _other_thresholds(run: Run, limits: Thresholds, shown: set[str]) -> None:
    """Draw the thresholds of a check without a finding; those of a finding are beside it."""
    kinds = [kind for kind, check in CHECKS.items() if check.thresholds and kind not in shown]
    kind = st.selectbox(
        "Thresholds of", kinds, format_func=lambda kind: CHECKS[kind].title, key=f"checked-{run.dir.name}", index=None
    )
    if kind is not None:
        _threshold_widgets(run, kind, limits)


def _threshold_widgets(run: Run, kind: str, limits: Thresholds) -> None:
    """Draw fields for a check's thresholds: they hold in this session, and for all readers after "Keep for this run"."""
    names, name = CHECKS[kind].thresholds, run.dir.name
    if not names:
        return
    given = {
        field: widget(field, Thresholds.model_fields[field], getattr(limits, field), f"threshold-{name}-{field}") for field in names
    }
    try:
        wanted = Thresholds.parse(**dict(limits) | given)
    except ValueError as error:
        st.error(plain(str(error)))
        return
    if wanted != limits:
        st.session_state[KEPT][name] = wanted
        st.rerun(scope="fragment" if _in_fragment() else "app")
    with st.container(horizontal=True):
        st.button(
            "Reset to default",
            key=f"default-{name}-{kind}",
            disabled=not set(limits.changed()) & set(names),
            on_click=_back,
            args=(run, names),
        )
        st.button(
            "Keep for this run",
            key=f"keep-{name}-{kind}",
            help="The run's alerts, the command line and notebooks use these thresholds, too.",
            disabled=not may_edit(),
            on_click=_keep,
            args=(run,),
        )
    if message := st.session_state.get(f"threshold.message.{name}"):
        st.caption(plain(message))


def _in_fragment() -> bool:
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    context = get_script_run_ctx()
    return context is not None and context.fragment_ids_this_run is not None


def _back(run: Run, names: tuple[str, ...]) -> None:
    limits = thresholds_of(run)
    defaults = {field: Thresholds.model_fields[field].default for field in names}
    st.session_state[KEPT][run.dir.name] = limits.model_copy(update=defaults)
    for field, value in defaults.items():
        st.session_state[f"threshold-{run.dir.name}-{field}"] = value


def _keep(run: Run) -> None:
    require_edit()
    limits = thresholds_of(run)
    try:
        write_thresholds(run.dir, limits)
        message = f"Kept: {len(limits.changed())} thresholds differ from the defaults."
    except OSError as error:
        message = f"The thresholds cannot be kept ({error.strerror})."
    st.session_state[f"threshold.message.{run.dir.name}"] = message
