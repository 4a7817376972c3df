"""What the executed lessons 05, 06 and 09 must show: predicted numbers equal measured ones, texts agree with outputs."""

from __future__ import annotations

import math

import pytest

from tests.notebooks.executed import PLOTLY, Executed


def simpo_to_alpha_dpo(notebook: Executed) -> None:
    without, with_margin = notebook.columns("pushes[f")
    assert without[1] == with_margin[2] == 0.625, "half of the largest push, where the logit is 0"
    assert without[2] == with_margin[3] == 0.022

    *_, margins, _, _, predicted = notebook.columns("table.assign(predicted")
    assert margins == predicted == [2, 4, 6]
    assert notebook.numbers("without_alpha =", r"SimPO: (\S+)") == [0]
    before, after = notebook.columns('"third gap 3"')
    assert before == [2, 4, 6]
    assert after == pytest.approx([2.40, 3.36, 6.24], abs=0.01)

    std, predicted, measured, push = notebook.columns("factors.round")
    assert measured == pytest.approx(predicted, abs=1e-4)
    assert [spread < 0.2 for spread in std] == [value < 0 for value in push]

    rows = dict(zip((row[0] for row in notebook.table("outcome.round")), zip(*notebook.columns("outcome.round"))))
    assert rows["steps with a negative push"] == (0, 1)
    assert rows["std of the gap"][1] < 0.2
    assert rows["log X₁"][0] > rows["log X₂"][0], "the method keeps the order of the two sides"
    assert rows["log X₁"][1] < rows["log X₂"][1] < 0, "without the stop-gradient the chosen side falls more"
    assert rows["accuracy"][1] < rows["accuracy"][0] - 0.05
    assert rows["highest"][1] < rows["lowest"][0], "the intervals do not overlap"
    _, broken = notebook.columns("pushes.loc")
    assert broken[0] < -1000 < broken[-1] < 0

    first, last = notebook.numbers("losses = {", r"first 10 steps +\S+ +(\S+)\nlast 10 steps +\S+ +(\S+)")
    assert first - 0.3 < last < first + 2, "the loss of the broken run neither falls nor explodes"

    names = [row[0] for row in notebook.table("measured.assign")]
    accuracy, log_x1, std, paper = (dict(zip(names, column)) for column in notebook.columns("measured.assign"))
    others = [value for name, value in accuracy.items() if name != "no stop-gradient"]
    assert accuracy["no stop-gradient"] < min(others) - 0.05
    assert max(others) - min(others) < 0.1, "within chance for 100 pairs"
    assert log_x1["AlphaDPO"] < log_x1["α = 0 (SimPO)"]
    assert std["AlphaDPO"] > std["α = 0 (SimPO)"], "the paper's narrower gaps are not shown"
    assert paper["AlphaDPO"] == 58.7
    _figures_are_drawn(notebook)
    _not_answered(notebook, "05")


def spo_degrees(notebook: Executed) -> None:
    scores = {phrase: float(score) for _, phrase, score in notebook.table('columns=["phrase", "score"]')}
    assert scores == {"salted water": 3.5, "water": 1.5, "Boil": 1, "add": 1, "rice": 1, "Drain": 1}
    assert notebook.text("enumerate(degrade(").count("degree ") == 4
    rows = notebook.table("removed_spans(")
    phrases = int(rows[0][2].split()[-1])
    assert [int(row[-1]) for row in rows] == [(2 * k * phrases + 3) // 6 for k in range(4)]

    predicted, measured = notebook.columns("before.round")
    assert measured[0] == predicted[0] == pytest.approx(math.log(2), abs=1e-3)
    assert measured[1] > predicted[1] == pytest.approx(math.log(4), abs=1e-3), "the head begins worse than knowing nothing"
    assert measured[2] == predicted[2] == 0.25

    names = [row[0] for row in notebook.table("held_out.round")]
    alone, both = (dict(zip(names, column)) for column in notebook.columns("held_out.round"))
    assert alone["degree_accuracy"] == 0.25
    assert both["degree_accuracy"] > 0.5
    assert both["loss_degree"] < math.log(4) < alone["loss_degree"]
    assert min(alone["rank_correlation"], both["rank_correlation"]) > 0.3, "the reward does not fall with the degree"
    assert abs(alone["rewards/accuracies"] - both["rewards/accuracies"]) < 0.1, "no difference beyond chance"

    recognized = notebook.numbers("share =", r"degree 0: (\d+)%, degree 1: (\d+)%, degree 2: (\d+)%, degree 3: (\d+)%")
    assert recognized[3] == max(recognized)
    assert max(recognized[1:3]) < min(recognized[0], recognized[3]), "the middle degrees are the difficult ones"
    assert notebook.numbers("share =", r"one degree: (\d+)%")[0] > 55

    policy, reference, ratio = notebook.columns("levels.round")
    assert policy == sorted(policy, reverse=True)
    assert policy[0] > -30
    assert policy[3] < -150
    assert ratio[3] > 1 > ratio[0]
    assert ratio == pytest.approx([p - r for p, r in zip(policy, reference)], abs=0.11)
    guesses = list(zip(*notebook.columns("degree_guesses(model")))
    assert all(sum(row) == pytest.approx(1, abs=0.03) for row in guesses)
    assert guesses[3][3] > 0.9
    assert any(max(row) > row[degree] for degree, row in enumerate(guesses)), "the text sends the reader to look for such a row"
    _figures_are_drawn(notebook)
    _not_answered(notebook, "06")


def your_own_objective(notebook: Executed) -> None:
    documented = notebook.text("print(SquaredHinge.__doc__)")
    assert "margin (m, > 0, default 1.0)" in documented
    assert "refused: squared_hinge: margin = -1.0: it must be greater than 0." in documented
    assert "Did you mean 'margin'?" in documented

    loss, push_1, push_2, _, dpo_1, dpo_2 = notebook.columns("columns |= {")
    assert loss[1] == 1
    assert push_1 == [3, 1, 0.5, 0, 0]
    assert push_2 == [value / 2 for value in push_1]
    assert dpo_1 == dpo_2
    assert dpo_1[1] == 0.25
    assert min(dpo_1) > 0

    own, dpo = notebook.columns("first.round")
    assert own == pytest.approx([1, 1, 0.5], abs=1e-3)
    assert dpo == pytest.approx([math.log(2), 0.25, 0.25], abs=1e-3)
    names = [row[0] for row in notebook.table("outcome.round")]
    own, dpo = (dict(zip(names, column)) for column in notebook.columns("outcome.round"))
    assert own["h"] == pytest.approx(1.7, abs=0.4)
    assert dpo["h"] == pytest.approx(3.2, abs=0.6)
    assert own["std of h"] < dpo["std of h"]
    assert own["log X₁"] / own["log X₂"] < 0.2 < 0.25 < dpo["log X₁"] / dpo["log X₂"]
    assert abs(own["accuracy"] - dpo["accuracy"]) < 0.1
    assert own["lowest"] < dpo["highest"]
    assert dpo["lowest"] < own["highest"], "the intervals overlap"

    assert "{'name': 'squared_hinge', 'beta': 0.5, 'margin': 2.0, 'share': 0.5}" in notebook.text("question =")
    _figures_are_drawn(notebook)
    _not_answered(notebook, "09")


def _figures_are_drawn(notebook: Executed) -> None:
    """A figure of an unknown scalar is empty and raises nothing."""
    for cell in notebook.notebook.cells:
        for output in cell.get("outputs", []):
            figure = output.get("data", {}).get(PLOTLY)
            assert figure is None or figure["data"], cell.source


def _not_answered(notebook: Executed, lesson: str) -> None:
    for number in (1, 2, 3):
        assert "Not answered yet." in notebook.text(f'check("{lesson}.{number}"')


CHECKS = {
    "05_simpo_to_alpha_dpo": simpo_to_alpha_dpo,
    "06_spo_degrees": spo_degrees,
    "09_your_own_objective": your_own_objective,
}
