"""The New run page: every objective's form, what it refuses, what it starts, and the same run as a command and as Python."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Selectbox

import lab
from app.state import pair_sets, recipe
from app.state.jobs import Job
from app.views.new_run.uploads import store_upload
from app.widgets import forms
from lab import home
from lab.cli import parser
from lab.cli.train import settings as settings_of
from lab.objectives import OBJECTIVES, formula_of, make_objective
from lab.pairs import BulkChange, PairsError, PairStore
from lab.run import DeviceQueue
from lab.run.config import TrainConfig
from lab.run.handle import Run
from lab.training.setup.preflight import settings_findings
from tests.bench.nonsense import parquet
from tests.helpers import until

APP = Path(__file__).parents[2] / "app"
NESTED = [name for name, kind in OBJECTIVES.items() if any(forms.is_objective(f) for f in kind.model_fields.values())]
PRESETS = [(name, preset) for name, kind in OBJECTIVES.items() for preset in kind.presets]


def open_page() -> AppTest:
    return AppTest.from_file(APP / "views" / "new_run" / "new_run.py", default_timeout=60).run()


def choose(at: AppTest, objective: str) -> AppTest:
    return at.selectbox(key="objective").select(objective).run()


def start_button(at: AppTest) -> Any:
    return next(button for button in at.button if button.label == "Start the run")


def command(at: AppTest) -> str:
    return next(code.value for code in at.code if code.value.startswith("python -m lab train"))


def config_of(message: str) -> TrainConfig:
    """The run that a command would start."""
    arguments = shlex.split(message)[3:]
    return TrainConfig.parse(**settings_of(parser("train").parse_args(arguments)))


def shown_parameters(at: AppTest, key: str) -> set[str]:
    widgets = [*at.number_input, *at.selectbox, *at.toggle, *at.text_input]
    return {str(w.key).removeprefix(f"{key}.").split(".")[0] for w in widgets if str(w.key).startswith(f"{key}.")}


def test_every_objective_has_a_form_that_can_start() -> None:
    at = open_page()
    for name, kind in OBJECTIVES.items():
        choose(at, name)
        assert not at.exception, name
        assert not at.error, (name, at.error[0].value)
        assert not start_button(at).disabled
        defaults = make_objective(name)
        unused = kind.unused_parameters({key: getattr(defaults, key) for key in kind.model_fields})
        assert shown_parameters(at, f"{name}.lab defaults") == set(kind.model_fields) - unused, name
        formula = formula_of(defaults)
        assert formula is not None
        assert [latex.value.strip("$\n") for latex in at.latex] == [formula.latex], name
        assert config_of(command(at)).objective == defaults


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_a_preset_is_taken_over(name: str, preset: str) -> None:
    at = choose(open_page(), name)
    at.selectbox(key=f"preset.{name}").select(preset).run()
    published = OBJECTIVES[name].presets[preset]
    config = config_of(command(at))
    assert config.objective == make_objective(name, **published.parameters)
    assert config.learning_rate == (published.learning_rate or TrainConfig.model_fields["learning_rate"].default)
    assert any("hardly move" in warning.value for warning in at.warning)  # papers' rates are for large models


def test_what_another_choice_turns_off_is_neither_shown_nor_sent() -> None:
    at = choose(open_page(), "alpha_dpo")
    key = "alpha_dpo.lab defaults"
    assert "ema_decay" in shown_parameters(at, key)
    at.number_input(key=f"{key}.ema_decay").set_value(0.5)
    at.selectbox(key=f"{key}.normalize").select("none").run()
    assert {"ema_decay", "ema_variant", "eps"}.isdisjoint(shown_parameters(at, key))
    assert config_of(command(at)).objective == make_objective("alpha_dpo", normalize="none")


@pytest.mark.parametrize("name", NESTED)
def test_an_objective_inside_another_has_its_own_form(name: str) -> None:
    at = choose(open_page(), name)
    key = f"{name}.lab defaults.base"
    at.selectbox(key=f"{key}.name").select("sgdpo").run()
    at.number_input(key=f"{key}.sgdpo.r1").set_value(0.7).run()
    assert config_of(command(at)).objective == make_objective(name, base={"name": "sgdpo", "r1": 0.7})
    at.number_input(key=f"{key}.sgdpo.r1").set_value(1.5).run()
    assert [e.value.replace("\\", "") for e in at.error] == ["sgdpo: r1 = 1.5: it must be at most 1."]


@pytest.mark.parametrize(
    ("widget", "value", "message"),
    [
        ("sgdpo.lab defaults.beta", 0.0, "sgdpo: beta = 0.0: it must be greater than 0."),
        ("setting.steps", 0, "steps = 0 does not work: it must be at least 1."),
        ("setting.learning_rate", -1.0, "learning_rate = -1.0 does not work: it must be at least 0."),
        ("setting.warmup_ratio", 1.5, "warmup_ratio = 1.5 does not work: it must be at most 1."),
    ],
)
def test_what_cannot_work_is_refused_with_one_sentence(widget: str, value: float, message: str) -> None:
    at = open_page()
    at.number_input(key=widget).set_value(value).run()
    assert [e.value.replace("\\", "") for e in at.error] == [message]
    assert start_button(at).disabled
    assert not at.exception


def test_a_device_and_a_path_that_are_not_here_are_refused() -> None:
    at = open_page()
    at.text_input(key="setting.device").set_value("cuda:77").run()
    assert "cuda:77" in at.error[0].value.replace("\\", "")
    at.text_input(key="setting.device").set_value("auto")
    at.selectbox(key="pairs").select("other").run()
    assert "Give the pairs" in at.error[0].value
    at.text_input(key="pairs.path").set_value("/nowhere/pairs_*.jsonl").run()
    assert "There is no file /nowhere/pairs_*.jsonl" in at.error[0].value.replace("\\", "")
    assert start_button(at).disabled


def test_unusual_values_are_warned_about_and_not_refused() -> None:
    at = open_page()
    at.number_input(key="sgdpo.lab defaults.beta").set_value(5.0).run()
    assert any("recommended range" in warning.value for warning in at.warning)
    assert not start_button(at).disabled


def test_what_the_report_warns_of_stands_in_the_form_too(rows: list[dict[str, str]], tmp_path: Path) -> None:
    """From a file, from a store, and with a set that is not at hand, of which only the settings are known."""
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:12]), encoding="utf-8")
    bold = {"learning_rate": 0.05, "batch_size": 16, "steps": 20, "held_out": 0.0001, "device": "cpu"}
    store = lab.open_pairs(file)
    expected = ["learning_rate = 0.05 is above", "batch_size = 16 is larger", "20 steps of 16 go through", "No pairs are held out"]
    for pairs in (str(file), str(store.path)):
        warnings = recipe.judge({"name": "dpo"}, {**bold, "pairs": pairs}).warnings
        assert [message[: len(one)] for message, one in zip(warnings, expected, strict=True)] == expected
    config = TrainConfig.parse(objective="dpo", **bold)
    assert warnings == tuple(one.message for one in settings_findings(config, 12, 0))
    assert len(recipe.judge({"name": "dpo"}, {**bold, "pairs": "owner/name"}).warnings) == 1
    quiet = {"device": "cpu", "batch_size": 4, "steps": 3, "learning_rate": 1e-4, "held_out": 0.4, "pairs": str(file)}
    assert recipe.judge({"name": "dpo"}, quiet).warnings == ()


def test_judging_the_form_fetches_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An adapter on a model of the hub; its base is fetched when it is loaded."""
    import huggingface_hub
    from safetensors.torch import save_file

    from lab.policy.sources.adapter_source import adapter_base

    def fetch(name: str, local_files_only: bool = False, **rest: Any) -> str:
        if local_files_only and not fetched:
            raise OSError("not here yet")
        fetched.append(name)
        return str(tmp_path)

    fetched: list[str] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    save_file({"weight": torch.zeros(2)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/base", "peft_type": "LORA"}))
    verdict = recipe.judge({"name": "dpo"}, {"model": str(tmp_path), "pairs": "world", "device": "cpu"})
    assert verdict.config is not None, verdict.refusal
    assert fetched == []
    assert adapter_base(tmp_path) == "owner/base"
    assert adapter_base(tmp_path, download=True) == str(tmp_path)
    assert fetched == ["owner/base"]


def test_the_adapter_is_asked_about_only_where_there_is_one() -> None:
    at = open_page()
    assert "lora_alpha" not in shown_parameters(at, "setting")
    at.number_input(key="setting.lora_rank").set_value(4).run()
    assert "lora_alpha" in shown_parameters(at, "setting")
    at.number_input(key="setting.lora_alpha").set_value(8.0).run()
    assert config_of(command(at)).lora_alpha == 8.0


def test_start_trains_and_goes_to_the_run(model_folder: Callable[[str], Path], rows: list[dict[str, str]], tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    at = AppTest.from_file(APP / "main.py", default_timeout=60).run()
    at.switch_page("views/new_run/new_run.py").run()
    at.selectbox(key="pairs").select("other")
    at.selectbox(key="model").select("other").run()
    at.text_input(key="pairs.path").set_value(str(file))
    at.text_input(key="model.path").set_value(str(model_folder("llama")))
    at.text_input(key="setting.name").set_value("my run")
    at.number_input(key="setting.steps").set_value(2).run()
    start_button(at).click().run()
    deadline = time.monotonic() + 300
    while not (lab.runs() and "run" in at.query_params):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        at.run()
    (run,) = lab.runs()
    assert run.wait(300) == "finished", run.error
    assert not at.exception
    assert at.query_params["run"] == [run.dir.name] or at.query_params["run"] == run.dir.name
    assert (run.name, run.step, run.config.objective.name) == ("my run", 2, "sgdpo")


def test_a_start_that_fails_says_why_on_the_page(tmp_path: Path) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": "p", "chosen": "same", "rejected": "same"}\n')
    at = open_page()
    at.selectbox(key="pairs").select("other")
    at.selectbox(key="model").select("other").run()
    at.text_input(key="pairs.path").set_value(str(file))
    at.text_input(key="model.path").set_value("owner/name").run()
    start_button(at).click().run()
    at.run()
    assert any("line 2: chosen and rejected are identical" in e.value.replace("\\", "") for e in at.error), [
        e.value for e in at.error
    ]
    assert not at.exception
    assert lab.runs() == []


def csv(rows: list[dict[str, str]]) -> bytes:
    return pd.DataFrame(rows).to_csv(index=False).encode()


WRITERS: dict[str, Callable[[list[dict[str, str]]], bytes]] = {
    "jsonl": lambda rows: "\n".join(json.dumps(row) for row in rows).encode(),
    "json": lambda rows: json.dumps(rows).encode(),
    "csv": csv,
    "parquet": parquet,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_an_upload_is_stored_and_chosen(kind: str, rows: list[dict[str, str]]) -> None:
    at = open_page()
    at.file_uploader[0].upload(f"my pairs.{kind}", WRITERS[kind](rows), "application/octet-stream").run()
    assert not at.exception
    assert [s.value for s in at.success] == ["50 pairs are stored and chosen."]
    (stored,) = (home.home() / "pairs").glob("*.sqlite")
    assert at.selectbox(key="pairs").value == stored.name
    assert config_of(command(at)).pairs == str(stored)
    texts = [(pair.prompt, pair.chosen, pair.rejected) for pair in PairStore(stored).all()]
    assert sorted(texts) == sorted((row["prompt"], row["chosen"], row["rejected"]) for row in rows)


def test_a_broken_upload_is_refused_by_line_and_leaves_nothing() -> None:
    good = json.dumps({"prompt": "p", "chosen": "a", "rejected": "b"})
    with pytest.raises(PairsError, match=r"^mine\.jsonl, line 3: this is not valid JSON"):
        store_upload("mine.jsonl", f"{good}\n{good}\nnot json\n".encode())
    assert not list(home.home().rglob("*.jsonl"))
    assert not list(home.home().rglob("*.sqlite"))


def test_an_upload_never_leaves_its_folder(rows: list[dict[str, str]]) -> None:
    store, _ = store_upload("../../../etc/passwd.jsonl", json.dumps(rows[0]).encode())
    assert Path(store.source).is_relative_to(home.home() / "uploads")
    assert store.path.parent == home.home() / "pairs"


def test_an_upload_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.widgets.import_form.uploads.MEGABYTES", 0)
    with pytest.raises(PairsError, match="more than 0 MB"):
        store_upload("mine.jsonl", b"{}")


@some.composite
def configs(draw: some.DrawFn) -> TrainConfig:
    """Runs with odd values of every kind that a command has to carry."""
    parameters = draw(
        some.sampled_from(
            [
                {"name": "sgdpo", "pilot": "s", "detach_pilot": False},
                {"name": "alpha_dpo", "normalize": "none", "stop_gradient": False},
                {"name": "spo", "base": {"name": "simpo", "beta": 3.5}, "degrees": 5},
                {"name": "ipo", "average": False},
                {"name": "dpo", "label_smoothing": 0.1},
            ]
        )
    )
    text = some.text(some.characters(blacklist_categories=["Cs", "Cc"]), max_size=20).map(str.strip)
    return TrainConfig.parse(
        objective=parameters,
        name=draw(text.filter(lambda t: not t.startswith("-"))),
        learning_rate=draw(some.floats(0, 1)),
        micro_batch_size=draw(some.none() | some.integers(1, 100)),
        evaluate=draw(some.booleans()),
        schedule=draw(some.sampled_from(["cosine", "linear", "constant"])),
        seed=draw(some.integers(0, 2**32 - 1)),
    )


@settings(deadline=None)
@given(configs())
def test_command_and_python_start_the_run_of_the_form(config: TrainConfig) -> None:
    assert config_of(recipe.as_command(config)) == config
    asked: dict[str, Any] = {}
    code = recipe.as_python(config).replace("import lab", "").replace("lab.train(", "train(")
    exec(code, {"train": lambda **given: asked.update(given)})
    assert TrainConfig.parse(**asked) == config


def test_a_field_without_a_widget_is_said() -> None:
    from pydantic import BaseModel

    class Odd(BaseModel):
        odd: dict[str, int] = {}

    with pytest.raises(TypeError, match="no widget for the setting odd"):
        forms.widget("odd", Odd.model_fields["odd"], {}, "odd")


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in OBJECTIVES.values() for n in k.model_fields])
def test_every_parameter_is_explained(kind: Any, name: str) -> None:
    message = forms.explain(name, kind.model_fields[name])
    assert message.startswith(f"`{name}`: ")
    assert len(message) > len(name) + 14
    assert message.endswith(".")
    assert ".." not in message


def test_a_value_at_the_beginning_of_an_explanation_keeps_its_case() -> None:
    assert forms.explain("pilot", OBJECTIVES["sgdpo"].model_fields["pilot"]).startswith("`pilot`: d\\: both pilots")


def python(at: AppTest) -> str:
    return next(code.value for code in at.code if code.value.startswith("import lab"))


def test_where_it_trains_is_chosen_and_said() -> None:
    at = open_page()
    assert at.radio(key="start.executor").value == "auto"
    assert any("Background thread: the world's model is small." in caption.value.replace("\\", "") for caption in at.caption)
    assert not {"--detach", "--no-queue"} & set(shlex.split(command(at)))
    assert "executor" not in python(at)
    at.radio(key="start.executor").set_value("process").run()
    at.toggle(key="start.queue").set_value(False).run()
    assert not at.exception
    assert {"--detach", "--no-queue"} <= set(shlex.split(command(at)))
    assert "executor='process'" in python(at)
    assert "queue=False" in python(at)


def test_a_micro_batch_may_be_fitted_to_memory() -> None:
    at = open_page()
    at.toggle(key="setting.micro_batch_size.fit").set_value(True).run()
    assert not at.exception
    assert at.number_input(key="setting.micro_batch_size").disabled
    assert "--micro-batch-size fit" in command(at)
    assert "micro_batch_size='fit'" in python(at)
    at.toggle(key="setting.micro_batch_size.fit").set_value(False).run()
    at.number_input(key="setting.micro_batch_size").set_value(4).run()
    assert "--micro-batch-size 4" in command(at)


def test_who_trains_on_a_device_is_said_before_the_start(store_run: Callable[..., Run]) -> None:
    run = store_run("busy", state="running")
    DeviceQueue(home.queue_dir(), "cpu").advance(run.dir.resolve())
    assert any("busy trains on cpu" in caption.value for caption in open_page().caption)


def test_the_chosen_executor_starts_the_run(monkeypatch: pytest.MonkeyPatch, store_run: Callable[..., Run]) -> None:
    given: dict[str, Any] = {}

    def train(**arguments: Any) -> Run:
        given.update(arguments)
        return store_run("started")

    monkeypatch.setattr("lab.api.train", train)
    monkeypatch.setattr("app.state.pair_sets.world_job", lambda name: Job(lambda progress: None))
    at = open_page()
    at.radio(key="start.executor").set_value("process").run()
    start_button(at).click().run()
    until(lambda: given, 120)
    assert (given["executor"], given["queue"]) == ("process", True)


def test_worlds_of_any_kind_and_seed_are_built_and_trained_on(
    monkeypatch: pytest.MonkeyPatch, store_run: Callable[..., Run]
) -> None:
    given: dict[str, Any] = {}
    built: list[str] = []

    def train(**arguments: Any) -> Run:
        given.update(arguments)
        return store_run("started")

    def world_job(name: str) -> Job[Any]:
        built.append(name)
        return Job(lambda progress: None)

    monkeypatch.setattr("lab.api.train", train)
    monkeypatch.setattr("app.state.pair_sets.world_job", world_job)
    at = open_page()
    at.selectbox(key="pairs").set_value("world-hard")
    at.selectbox(key="model").set_value("other").run()
    at.text_input(key="model.path").set_value("world:x").run()
    assert start_button(at).disabled
    assert "There is no embedded world" in at.error[0].value
    at.text_input(key="model.path").set_value("world:3").run()
    start_button(at).click().run()
    until(lambda: given, 120)
    assert (given["pairs"], given["model"]) == ("world-hard", "world:3")
    assert built == ["world-hard", "world:3"]


def test_the_chosen_set_stays_while_its_label_counts_fewer_pairs(
    rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, str] = {}

    def as_a_browser(self: Selectbox) -> WidgetState:
        """Send the label that was chosen, or the one that the page has set since; AppTest would send the present one."""
        if self.proto.set_value:
            sent[self.id] = self.proto.raw_value
        return WidgetState(id=self.id, string_value=sent.get(self.id, self.options[self.proto.default]))

    store = lab.open_pairs(rows)
    at = open_page()
    chosen = at.selectbox(key="pairs")
    sent[chosen.id] = pair_sets.label(store.path.name)
    monkeypatch.setattr(Selectbox, "_widget_state", property(as_a_browser))
    at.run()
    for left in (len(rows) - 1, len(rows) - 2):
        store.apply([store.ids()[0]], BulkChange("drop"))
        for _ in range(3):
            at.run()
            assert at.session_state["pairs"] == store.path.name
        assert f"({left} pairs, " in sent[chosen.id]
