"""The Experiments page without a browser: the form with its errors, the start, the list, and one experiment."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.pages import EXPERIMENTS
from app.views.experiments.draft import Draft, Entry, declaration_of, draft_of, problems
from lab import sweeping
from lab.experiments import Driver, ExperimentFolder, PlannedRun, declare, experiment_folders, find_experiment, open_experiment
from lab.run.listing.trash import trashed_runs
from lab.world import ensure
from tests.app.conftest import ROOT
from tests.app.pages import open_page, page_text, unescaped
from tests.experiments.faked import WrittenRuns, content, folder_with
from tests.helpers import until

YAML = """
name: rates
objectives: [dpo, {name: sgdpo, r1: [0.3, 0.6], label: S}]
learning_rate: [1e-4, 2e-4]
seeds: 3
steps: 20
eval_prompts: 6
compare: {metrics: [eval/oracle_reward], at: [end, kl=2], smallest: 0.05}
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.experiments.driver.INTERVAL", 0.01)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ExperimentFolder]:
    """The experiments of which the page starts the process; none is started."""
    folders: list[ExperimentFolder] = []
    monkeypatch.setattr(sweeping, "start_driver", lambda folder, **_: folders.append(folder))
    return folders


def open_form(**query: str) -> AppTest:
    return open_page(EXPERIMENTS, new="yes", **query)


def button(app: AppTest, label: str) -> Any:
    return next(button for button in app.button if button.label == label)


def field(app: AppTest, name: str) -> Any:
    """A text field of the form by the end of its key."""
    return next(field for field in [*app.text_input, *app.text_area] if str(field.key).endswith(name))


def rows(app: AppTest) -> dict[str, list[str]]:
    """The texts of the list's rows by their ids."""
    (drawn,) = [element.proto for element in app.get("bidi_component") if element.proto.component_name == "lab_rows"]
    return {row["id"]: [cell["text"] for cell in row["cells"]] for row in json.loads(drawn.bytes)["rows"]}


def grid(app: AppTest) -> dict[str, list[dict[str, Any]]]:
    """The cells of the table of runs, by variant."""
    (drawn,) = [element.proto for element in app.get("bidi_component") if element.proto.component_name == "lab_run_grid"]
    return {row["name"]: row["cells"] for row in json.loads(drawn.bytes)["rows"]}


def progress(app: AppTest) -> list[str]:
    """The texts of the bars of progress."""
    return [unescaped(element.proto.text) for element in app.get("progress")]


def paste(app: AppTest, text: str) -> AppTest:
    field(app, "pasted").set_value(text)
    return button(app, "Fill in").click().run()


def test_a_draft_holds_a_whole_declaration() -> None:
    declaration = declare(
        ["dpo", {"name": "sgdpo", "r1": [0.6, 0.9], "learning_rate": 2e-4, "label": "S, strong"},
         {"name": "spo", "base": {"name": "simpo", "beta": 2.0}}],
        [3, 1],
        {"learning_rate": [1e-4, 2e-5], "steps": 50, "batch_size": 4, "pairs": ["/a, b/c.jsonl", "world"], "evaluate": False},
        {"model": ["base-0", "base-1"]},
        {"metrics": ["eval/kl"], "at": ["end", "kl=2"], "baseline": "dpo", "smallest": 0.05},
    )  # fmt: skip
    draft = draft_of("mine", declaration)
    assert problems(draft) == {}
    assert declaration_of(draft) == declaration


def test_each_wrong_field_has_its_sentence() -> None:
    entry = Entry("sgdpo", {"r1": "0.5, 7", "beta": "[", "learning_rate": "-1"})
    settings = {"steps": "0", "learning_rate": "2e-4, x"}
    found = problems(Draft("x", (entry,), settings, "0", "a", ("oracle_reward",), ("klx",), smallest="-1"))
    assert {place: sentence[:30] for place, sentence in found.items()} == {
        "0.r1": "sgdpo: r1 = 7: it must be at m",
        "0.beta": "'[' is no list of values; sepa",
        "0.learning_rate": "learning_rate = -1 does not wo",
        "steps": "steps = 0 does not work: it mu",
        "learning_rate": "learning_rate = 'x' does not w",
        "seeds": "seeds = 0 does not work: give ",
        "with_seed": "with_seed has 'a': 'a' is no s",
        "metrics": "compare: 'oracle_reward' is no",
        "at": "Runs cannot be compared at 'kl",
        "smallest": "compare: smallest = -1 does no",
    }


def test_without_an_experiment_the_page_tells_what_to_do() -> None:
    app = open_page(EXPERIMENTS)
    assert "A single run proves little" in page_text(app)
    button(app, "Declare an experiment").click().run()
    app.run()
    assert "New experiment" in page_text(app)


def test_the_form_counts_the_runs_and_names_what_is_wrong() -> None:
    app = open_form()
    assert "10 runs: 2 variants with 5 seeds each." in page_text(app).replace("*", "")
    field(app, "seeds").set_value("0, 1, 2").run()
    field(app, ".learning_rate").set_value("")  # of the first objective alone
    field(app, "sgdpo.r1").set_value("0.3, 0.6").run()
    assert "9 runs: 3 variants with 3 seeds each." in page_text(app).replace("*", "")
    assert "sgdpo r1=0.3" in page_text(app)
    field(app, "sgdpo.r1").set_value("0.3, 6").run()
    assert page_text(app).count("sgdpo: r1 = 6: it must be at most 1.") == 2  # at the field, and beside the button
    assert button(app, "Start the runs").disabled
    field(app, "sgdpo.r1").set_value("").run()
    button(app, "Add an objective").click().run()
    assert "Two variants are called 'dpo'" in page_text(app)
    field(app, "2.dpo.beta").set_value("0.5").run()
    assert not [button for button in app.button if button.label == "Start the runs"]


def test_a_file_fills_the_form_and_is_started(started: list[ExperimentFolder], shared_cache: Path) -> None:
    ensure(cache=shared_cache)
    app = paste(open_form(), "objectives: [dppo]\nseeds: 2")
    assert "There is no objective 'dppo'" in page_text(app)
    paste(app, "objectives: [dpo]\nseeds: 2\nevaluate: false\ncompare: {metrics: [eval/kl]}")
    assert "no run will record eval/kl: evaluate is off" in page_text(app)
    assert button(app, "Start the runs").disabled
    paste(app, YAML)
    text = page_text(app).replace("*", "")
    assert "18 runs: 6 variants with 3 seeds each." in text
    assert "learning_rate: [0.0001, 0.0002]" in text
    assert "metrics=" not in text
    assert "'metrics': ['eval/oracle_reward']" in text  # as Python
    assert field(app, "name").value == "rates"
    button(app, "Start 18 runs").click().run()
    until(lambda: started, 60, lambda: page_text(app))
    until(lambda: app.run().query_params.get("experiment"), 60, lambda: page_text(app))
    experiment = open_experiment("rates")
    assert experiment.declaration.compare == {"metrics": ["eval/oracle_reward"], "at": ["end", "kl=2"], "smallest": 0.05}
    assert [len(experiment.runs), experiment.variants[-1]] == [18, "S learning_rate=0.0002, r1=0.6"]
    assert "0 of 18 runs finished." in progress(app)

    app = open_form(**{"from": "rates"})
    assert field(app, "name").value == "rates"
    field(app, "seeds").set_value("4").run()
    assert "24 runs" in page_text(app)
    assert "There is an experiment rates already" not in page_text(app)
    field(app, "name").set_value("other").run()
    assert "24 runs" in page_text(app)


def test_the_list_and_an_experiment_show_states_and_failures(started: list[ExperimentFolder]) -> None:
    folder = folder_with(content(["dpo", "sgdpo"], 2, steps=5), "mine")
    executor = WrittenRuns()
    failed, finished = folder.read().runs[:2]
    executor.ends[failed.key] = "failed"
    Driver(folder, executor).run()
    folder_with(content("dpo", 3, steps=5), "new")
    app = open_page(EXPERIMENTS)
    assert {name: cells[:4] for name, cells in rows(app).items()} == {
        "mine": ["Failed", "mine", "3 of 4", "1"],
        "new": ["Waiting", "new", "0 of 3", ""],
    }
    app = open_page(EXPERIMENTS, experiment="mine")
    assert "3 of 4 runs finished, 1 failed." in progress(app)
    assert [cell["text"] for cell in grid(app)["dpo"]] == ["✗", "✓"]
    assert "dpo, seed 0: The loss is not finite." in page_text(app)
    button(app, "Retry failed (1)").click().run()
    until(lambda: started == [find_experiment("mine")] or started, 30)
    app = open_page(EXPERIMENTS, experiment="mine", run=finished.key)
    assert f"{finished.variant}, seed 0" in page_text(app)
    assert str(find_experiment("mine").run_folders()[finished.key]) in page_text(app)
    assert "There is no experiment 'mien'" in page_text(open_page(EXPERIMENTS, experiment="mien"))


def test_an_extension_says_how_many_runs_it_adds_before_they_train(started: list[ExperimentFolder]) -> None:
    folder_with(content(["dpo", "sgdpo"], 2, steps=5), "mine")
    app = open_page(EXPERIMENTS, experiment="mine")
    assert button(app, "Extend and train").disabled
    seeds = next(field for field in app.number_input if field.label == "Seeds")
    seeds.set_value(3).run()
    assert "The time is not known before a run of this kind has finished." in page_text(app)
    assert not button(app, "Extend by 2 runs").disabled
    app.selectbox[0].set_value("spo").run()
    button(app, "Extend by 5 runs")
    seeds = next(field for field in app.number_input if field.label == "Seeds")
    seeds.set_value(0).run()
    assert "give their number, at least 1" in app.error[0].value


def measured(run: PlannedRun) -> list[Any]:
    """SGDPO has more reward than DPO with every seed."""
    better = 0.5 * (run.config.objective.name == "sgdpo")
    scalars = [{"eval/oracle_reward": at * (1 + better) + 0.01 * run.seed, "eval/kl": 2.0 * at} for at in (0, 1)]
    return [(step, values, {}) for step, values in zip((0, 5), scalars)]


def test_results_say_what_differs_and_by_which_rule() -> None:
    folder = folder_with(content(["dpo", "sgdpo"], 3, steps=5, compare={"at": "end", "metrics": "eval/oracle_reward"}), "mine")
    Driver(folder, WrittenRuns(measured)).run()
    app = open_page(EXPERIMENTS, experiment="mine", view="Results")
    (sentence,) = open_experiment("mine").compare().sentences
    assert "sgdpo is better than dpo in oracle reward of sampled answers by 0.5" in sentence
    assert f"- {sentence}" in page_text(app)
    assert "By the rule that was written down with the declaration. Each variant is compared with every other." in page_text(app)
    differences, means = (element.value for element in app.dataframe)
    assert list(differences["Seeds needed"]) == [2]
    assert list(means["Oracle reward of sampled answers"]) == pytest.approx([1.01, 1.51])
    app.multiselect(key="at").set_value(["kl"]).run()
    assert "at equal KL (2 nats an answer)" in page_text(app)
    assert "Not by the declared rule." in page_text(app)
    app.segmented_control(key="rows").set_value("runs").run()
    assert [len(app.dataframe[1].value), list(app.dataframe[1].value["Seed"])] == [6, [0, 0, 1, 1, 2, 2]]
    curves = open_page(EXPERIMENTS, experiment="mine", view="Curves")
    drawn = [element for element in curves.get("bidi_component") if element.proto.component_name == "lab_figure"]
    assert len(drawn) == 2
    five = folder_with(content(["dpo", {"name": "sgdpo", "r1": [0.5, 0.6, 0.7, 0.8]}], 2, steps=5), "five")
    Driver(five, WrittenRuns(measured)).run()
    app = open_page(EXPERIMENTS, experiment="five", view="Results")
    assert "With more than 4 variants, each is compared with the first, dpo." in page_text(app)
    assert app.selectbox(key="baseline").placeholder == "dpo"
    waiting = folder_with(content(["dpo", "sgdpo"], 3, steps=5), "new")
    assert "The results appear here" in page_text(open_page(EXPERIMENTS, experiment=waiting.name, view="Results"))


def test_no_field_shares_its_name_in_the_address_with_a_field_of_another_page() -> None:
    """Streamlit keeps the value of such a field under its name alone, and would write it into the other page's address."""
    pages: dict[str, set[str]] = {}
    for file in (ROOT / "app" / "views").rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            keywords = {word.arg: word.value for word in call.keywords} if isinstance(call, ast.Call) else {}
            if "bind" in keywords and isinstance(keywords["key"], ast.Constant):
                pages.setdefault(str(keywords["key"].value), set()).add(file.parent.name)
    assert {"view", "part"} <= pages.keys()
    assert not {key: names for key, names in pages.items() if len(names) > 1}


def test_an_experiment_is_renamed_and_deleted_with_a_warning() -> None:
    folder = folder_with(content(["dpo", "sgdpo"], 2, steps=5), "mine")
    Driver(folder, WrittenRuns(measured)).run()
    app = open_page(EXPERIMENTS, experiment="mine")
    app.text_input(key="experiment.rename.mine").set_value("a b").run()
    next(button for button in app.button if button.label == "Rename").click().run()
    assert "name" in app.error[0].value
    button(app, "Delete").click().run()
    assert "Declaration and results of 4 finished runs are deleted for good." in page_text(app)
    assert "4 runs stay on the Runs page (" in page_text(app)
    app.toggle(key="experiment.delete.runs").set_value(True).run()
    assert "4 runs move to the trash of the Runs page: " in page_text(app)
    button(app, "Delete the experiment").click().run()
    app.run()
    assert experiment_folders() == []
    assert len(trashed_runs()) == 4
