"""What the executed lessons 02 to 04 must show: predicted numbers equal measured ones, and the texts agree with the outputs."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from lab.objectives import formula_text, make_objective
from tests.notebooks.executed import Executed


def from_bradley_terry_to_dpo(notebook: Executed) -> None:
    pairs, predicted, measured = notebook.columns("pd.cut(")
    assert sum(pairs) == 3000
    assert measured == pytest.approx(predicted, abs=0.03)
    assert predicted[0] < 0.75 < 0.99 < predicted[-1], "close pairs are noisy, distant ones are not"

    *_, predicted, measured = notebook.columns('table["loss, predicted"]')
    assert measured == predicted
    assert measured[0] == pytest.approx(math.log(2), abs=1e-4)
    assert measured[1] == measured[2], "a shift of both log-ratios changes nothing"

    assert formula_text(make_objective("dpo")) in notebook.text("print(formula_text(dpo))")
    lines = [output.data["text/latex"] for output in notebook.outputs("numbers_of(") if output.output_type == "display_data"]
    assert len(lines) >= 2
    assert "0.474" in lines[-1], "the loss, with the numbers of the pair put in"
    _, probability, loss, push = notebook.columns("rows.append((h,")
    assert probability[3] == 0.5
    assert loss[3] == pytest.approx(0.6931)
    assert push[3] == pytest.approx(0.05), "half of β at the start"
    assert loss[0] - loss[1] == pytest.approx(0.1 * 20, rel=0.1), "β per nat where the order is wrong"
    assert loss[-1] < 0.02, "almost nothing where it is right"

    *_, predicted, chosen, rejected = notebook.columns('table["push on the chosen"]')
    assert predicted == chosen == rejected

    assert max(notebook.numbers("compare_partials(", r"over 20 pairs: (\S+), largest residual (\S+)")) < 1e-6
    assert len(notebook.table("compare_partials(")) == 20
    _, _, page_1, model_1, page_2, model_2 = notebook.columns("compare_partials(")
    assert model_1 == pytest.approx(page_1, abs=2e-6)
    assert model_2 == pytest.approx(page_2, abs=2e-6)
    assert page_2 == pytest.approx([-value for value in page_1], abs=2e-6)

    best_loss, best = notebook.numbers("best_loss =", r"loss (\S+), (\S+)%")
    first, loss = notebook.numbers("first = run", r"predicted (\S+), measured (\S+)")
    assert loss == pytest.approx(first, abs=1e-4)
    assert notebook.numbers("first = run", r"differ by (\S+) at most")[0] < 1e-5
    losses, accuracies = notebook.columns("held_out = run")
    assert best_loss < losses[1] < losses[0] == pytest.approx(math.log(2), abs=1e-3)
    assert abs(accuracies[0] - 0.5) < 0.15
    assert 0.6 < accuracies[1] < accuracies[2] == pytest.approx(best / 100, abs=1e-3)
    _not_answered(notebook, "02")


def gradient_imbalance(notebook: Executed) -> None:
    *_, pushes, predicted, measured = notebook.columns('table["increase / decrease, predicted"]')
    assert pushes == [1.0] * 5
    assert measured == predicted

    x1, x2, total, loss = notebook.numbers("path = descent", r"log X₁ = (\S+), log X₂ = (\S+), sum (\S+), loss (\S+)")
    assert x1 == -x2 > 1
    assert total == 0
    assert loss < math.log(2)

    *_, chosen, rejected, _, total = notebook.columns("curves = run.scalars")
    assert abs(total[0]) < 2, "in the first steps the prediction holds"
    assert total[-1] < -10 < 0
    assert rejected[-1] < chosen[-1] < -3

    (accuracy,) = notebook.numbers("held_out = run", r"in the right order: (\S+)%")
    (displaced,) = notebook.numbers("held_out = run", r"than before: (\S+)%")
    (factor,) = notebook.numbers("held_out = run", r"is (\S+) times less likely")
    assert accuracy > 70
    assert displaced > 80
    assert factor > 20

    assert notebook.numbers("cosine = run", r"(\S+) in the second half")[0] < -0.1
    assert notebook.numbers("lowest = ", r"fell most: (\S+)%")[0] > 50
    chosen, rejected = notebook.columns("per_answer = ")
    assert len(chosen) == 6
    assert max(chosen) < 0
    assert max(rejected) < 0, "the same tokens fell in both answers"
    (room,) = notebook.numbers("room = ", r"can gain (\S+) nats")
    chosen_change, rejected_change = notebook.numbers("room = ", r"chosen (\S+), rejected (\S+) nats")
    assert rejected_change < chosen_change < 0 < room < -rejected_change

    before, after = (dict(zip(("reward", "valid", "tokens", "kl"), column)) for column in notebook.columns("evaluations = run"))
    assert after["reward"] < before["reward"]
    assert after["valid"] < before["valid"]
    assert before["kl"] == 0
    assert after["kl"] > 5

    assert formula_text(make_objective("dpop")) in notebook.text("guarded = lab.train")
    chosen, rejected, accuracy, reward, valid = notebook.columns("end = pd.DataFrame")
    assert chosen[1] > -2 > chosen[0]
    assert rejected[1] < chosen[1]
    assert min(accuracy) > 0.7
    assert reward[1] > reward[0]
    assert valid[1] > valid[0]
    _not_answered(notebook, "03")


def sgdpo_pilots(notebook: Executed) -> None:
    assert formula_text(make_objective("sgdpo")) in notebook.text("print(formula_text(sgdpo))")
    for side in ("chosen", "rejected"):
        predicted, counted = notebook.numbers("shorter = min", rf"{side} +\d+ tokens, pilot predicted (\d+), counted (\d+)")
        assert predicted == counted
        predicted, mean, error = notebook.numbers(
            "many = pilot_distribution", rf"{side} .*predicted +(\S+), measured +(\S+) ± (\S+),"
        )
        assert abs(mean - predicted) < 4 * error + 0.01

    *_, theorem_1, autograd_1, theorem_2, autograd_2 = notebook.columns("theorem_1(*point)")
    assert autograd_1 == theorem_1
    assert autograd_2 == theorem_2
    assert min(theorem_1) > 0 > max(theorem_2)

    chosen, rejected = notebook.columns("is_monotonic_increasing")
    assert chosen == sorted(chosen)
    assert rejected == sorted(rejected, reverse=True)

    rows = [list(map(float, row)) for row in notebook.table("theorem_3(log_x1")]
    assert len(rows) == 3
    for ab, *f in rows:
        predicted, measured = f[:3], f[3:]
        assert measured == predicted
        steps = [later - earlier for earlier, later in pairwise(measured)]
        assert all(step > 0 for step in steps) if ab > 1 else all(step < 0 for step in steps) if ab < 1 else measured == [1.0] * 3

    wished, displaced, up = notebook.columns("situations = {")
    assert wished[0] < 1 < displaced[0]
    assert up[0] < 1
    assert wished[-1] == displaced[-1] == up[-1] == 1
    agree, clear = notebook.numbers("outside = ", r"(\S+) of (\S+) points")
    assert agree == clear > 3000

    (half,) = notebook.numbers("first = {", r"measured (\S+)\n")
    assert half == pytest.approx(0.5, abs=1e-3)
    assert notebook.numbers("first = {", r"largest difference (\S+)")[0] < 1e-5
    chosen, rejected = notebook.numbers("first = {", r"weight of the chosen (\S+), of the rejected (\S+)")
    assert chosen > rejected

    log_x1, _, accuracy, *_ = notebook.columns("end = pd.DataFrame")
    assert log_x1[0] < log_x1[1] < 0, "less displaced than with DPO, but displaced"
    assert min(accuracy) > 0.7
    *dpo, sgdpo = zip(*notebook.columns('rows["SGDPO'))
    assert any(h < sgdpo[2] and log_x1 < sgdpo[0] for log_x1, _, h in dpo), "more displaced at a smaller margin"
    _not_answered(notebook, "04")


def _not_answered(notebook: Executed, lesson: str) -> None:
    for number in (1, 2, 3):
        assert "Not answered yet." in notebook.text(f'check("{lesson}.{number}"')


CHECKS = {
    "02_from_bradley_terry_to_dpo": from_bradley_terry_to_dpo,
    "03_gradient_imbalance": gradient_imbalance,
    "04_sgdpo_pilots": sgdpo_pilots,
}
