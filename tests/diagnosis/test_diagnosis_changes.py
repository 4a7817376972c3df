"""Changes made in mid-run: each harmful one is named with its step and can be left out, and the others are not blamed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import lab
from lab.diagnosis import diagnose, run_checks
from lab.run.handle import Run
from tests.diagnosis import changing_runs, troubled
from tests.diagnosis.changing_runs import rewording, setting, swapping
from tests.helpers import quick_first


class Fragile(lab.OBJECTIVES["dpo"]):  # type: ignore[name-defined,misc]
    """DPO that cannot compute its loss at a large beta."""

    name: ClassVar[str] = "fragile"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.beta > 1:
            raise RuntimeError("the margins do not fit")
        return super().__call__(*args, **kwargs)


RUNS: dict[str, tuple[Any, Callable[[Path], None], dict[str, Any]]] = {
    "too fast": ("dpo", setting(learning_rate=0.03), {"rows": troubled.contradictory}),
    "not a number": ("dpo", setting(learning_rate=1e30), {}),
    "swapped": ("dpo", swapping, {"learning_rate": 1e-4}),
    "no memory": ("dpo", rewording, {"fails": 15}),
    "another scale": ("ipo", setting(beta=0.02), {}),
    "harmless": ("dpo", setting(learning_rate=5e-5, beta=0.15), {}),
    "harmless edit": ("dpo", rewording, {"learning_rate": 1e-4, "save_every": 0}),
    "cannot compute": ({"name": "fragile"}, setting(beta=2.0), {}),
    "cannot compute at once": ({"name": "fragile"}, setting(beta=2.0), {"at": 1}),
    "late failure": ("dpo", setting(learning_rate=5e-5), {"fails": 23, "at": 2}),
    "full disk": ("dpo", setting(learning_rate=5e-5), {"fails": 15, "failure": OSError(28, "No space left on device")}),
    "no memory, no edit": ("dpo", setting(learning_rate=5e-5), {"fails": 15}),
}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Iterator[Callable[[str], Run]]:
    """changed("swapped") is that run; each is made when it is first asked for."""
    place = tmp_path_factory.mktemp("changed")
    made: dict[str, Run] = {}

    def get(name: str) -> Run:
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LAB_HOME", str(place / f"home-{name}"))
                patch.setenv("LAB_CACHE", str(place / "cache"))
                objective, change, settings = RUNS[name]
                made[name] = changing_runs.run(objective, model_folder("gpt2"), place / name.replace(" ", "-"), change, **settings)
        return made[name]

    lab.register(Fragile)
    yield get
    del lab.OBJECTIVES["fragile"]


@pytest.mark.parametrize(
    ("name", "kind", "severity", "message"),
    quick_first(
        (
            "too fast",
            "harmful_change",
            "warning",
            r"jumped right after a change: after step 12, learning_rate changed from 3e-05 to 0\.03\. "
            r"It was [\d.]+ in the 12 steps before and up to [\d.]+ from step 1\d on\. "
            r"Resume without the change at step 12 \(it goes back to the checkpoint of step 10; train --resume --without-change 12",
        ),
        (
            "not a number",
            "not_finite",
            "error",
            r"at step 14, 2 steps after a change\..* changed from 3e-05 to 1e\+30\. Resume without",
        ),
        ("swapped", "harmful_change", "warning", r"edits of the pairs were taken \(version 50: 50 edited\)\. It was 0\.\d+ in"),
        (
            "no memory",
            "harmful_change",
            "error",
            r"failed right after a change: .*version 1: 1 edited\)\. It ran out of memory in step 16",
        ),
        (
            "cannot compute",
            "harmful_change",
            "error",
            r"failed right after a change: after step 12, beta changed from 0\.1 to 2\. It ended after step 12: "
            r"RuntimeError: the margins do not fit\. Resume without the change at step 12 \(it goes back to the checkpoint",
        ),
        (
            "cannot compute at once",
            "harmful_change",
            "error",
            r"after step 1, .* It ended after step 1: .* Resume without the change at step 1 ",
        ),
        (
            "another scale",
            "harmful_change",
            "notice",
            r"another function of the same policy: after step 12, beta changed from 0\.1 to 0\.02\.",
        ),
        quick=3,
    ),
)
def test_a_change_that_did_harm_is_named(changed, name, kind, severity, message):
    run = changed(name)
    one = {one.kind: one for one in run.diagnose()}[kind]
    assert (one.severity, one.change) == (severity, RUNS[name][2].get("at", 12))
    assert re.search(message, one.message), one.message
    assert one.thresholds if kind == "harmful_change" else True
    assert "loss_spike" not in {one.kind for one in run.diagnose()}, "said once"
    earlier = diagnose(run.reader, step=min(RUNS[name][2].get("at", 13), run.step) - 1)
    assert [one.change for one in earlier if one.change is not None] == [], "not before it was made"
    if severity != "notice":
        later = {one.kind for one in run.diagnose()} - {one.kind for one in earlier}
        assert later <= {kind, "not_finite", "nothing_held_out", "parameters"}, "what came with the change is told with it"


@pytest.mark.parametrize("name", ["harmless", "harmless edit", "no memory, no edit", "full disk", "late failure"])
def test_a_harmless_change_is_not_blamed(changed, name):
    run = changed(name)
    assert len(run.changes()) == 1
    assert [one.kind for one in run.diagnose() if one.change is not None] == []
    assert "harmful_change" not in {one.kind for one in run.diagnose()}
    assert run_checks(run.reader)["harmful_change"].numbers


def test_what_was_wrong_before_a_change_is_not_put_down_to_it(model_folder, tmp_path):
    """The loss was no smaller before."""
    settings = {"learning_rate": 0.03, "rows": troubled.contradictory}
    run = changing_runs.run("dpo", model_folder("gpt2"), tmp_path / "run", setting(learning_rate=0.02), **settings)
    assert len(run.changes()) == 1
    assert [one.kind for one in run.diagnose() if one.change is not None] == []


def test_the_run_goes_on_without_the_change_and_its_finding_goes(changed, monkeypatch, tmp_path):
    import shutil

    failed = changed("not a number")
    folder = tmp_path / "run"
    shutil.copytree(failed.dir, folder)
    change = next(one.change for one in lab.open_run(folder).diagnose() if one.change is not None)
    run = lab.train(run_dir=folder, resume=True, without_change=change, background=False)
    assert run.state == "finished", run.error
    assert run.step == 24
    assert [one.kind for one in run.diagnose() if one.change is not None or one.severity == "error"] == []


def test_a_living_run_is_told_to_set_the_value_back(changed, monkeypatch):
    from lab.diagnosis.evidence import Evidence

    monkeypatch.setattr(Evidence, "ended", False)
    message = {one.kind: one for one in changed("too fast").diagnose()}["harmful_change"].message
    assert "Set learning_rate back to 3e-05, or stop the run and resume without the change at step 12 (it goes" in message
    message = {one.kind: one for one in changed("swapped").diagnose()}["harmful_change"].message
    assert "Stop the run and resume without the change at step 12" in message


def test_without_a_checkpoint_from_before_it_says_where_the_run_begins(changed, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(changed("not a number").dir, folder)
    shutil.rmtree(folder / "checkpoints")
    message = {one.kind: one for one in lab.open_run(folder).diagnose()}["not_finite"].message
    assert "(no earlier checkpoint is left, so it starts again at step 1; train --resume --without-change 12)" in message


def test_a_parameter_that_scales_the_weights_is_no_saturation(model_folder, tmp_path):
    """After beta was lowered 100 times, weights are 100 times smaller; the pairs have no less to teach."""
    run = changing_runs.run("dpo", model_folder("gpt2"), tmp_path / "run", setting(beta=0.001), steps=40)
    assert "saturated" not in {one.kind for one in run.diagnose()}
    assert run_checks(run.reader)["saturated"].numbers
