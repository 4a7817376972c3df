"""The field of an objective over (log X1, log X2) and descent in it."""

import math

import pytest
import torch

from lab.objectives import OBJECTIVES, AlphaDPO, field, flow, make_objective

X1, X2 = torch.linspace(-4, 4, 9), torch.linspace(-3, 3, 7)


def test_dpo_in_closed_form():
    data = field(make_objective("dpo", beta=0.7), X1, X2)
    h = (X1[:, None] - X2[None, :]).double()
    torch.testing.assert_close(data.value, -torch.nn.functional.logsigmoid(0.7 * h))
    torch.testing.assert_close(data.d_log_x1, -0.7 * torch.sigmoid(-0.7 * h))
    torch.testing.assert_close(data.d_log_x2, 0.7 * torch.sigmoid(-0.7 * h))
    torch.testing.assert_close(data.log_space_ratio, torch.ones_like(h))
    torch.testing.assert_close(data.ratio, (-h).exp())  # X2/X1: the imbalance SGDPO sets out to mend
    torch.testing.assert_close(data.d_x1, data.d_log_x1 * (-X1.double()).exp()[:, None])
    torch.testing.assert_close(data.d_x2, data.d_log_x2 * (-X2.double()).exp()[None, :])


def test_sgdpo_is_theorem_3():
    """Tokens share the log-ratio evenly, so a pilot of k of n tokens has log Y = (k/n) log X."""
    data = field(make_objective("sgdpo", beta=0.5, r1=0.5, r2=0.75), X1, X2, tokens=(8, 8))
    z1 = 0.5 * (X1[:, None] - 0.75 * X2[None, :]).double()
    z2 = 0.5 * (0.5 * X1[:, None] - X2[None, :]).double()
    torch.testing.assert_close(data.log_space_ratio, torch.sigmoid(-z1) / torch.sigmoid(-z2))


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("tokens", [(1, 1), (3, 9)], ids=str)
def test_any_objective_by_central_differences(name, tokens):
    objective, step = make_objective(name), 1e-5
    one, other = torch.tensor([-1.3, 0.4]).double(), torch.tensor([0.7, -2.1]).double()
    data = field(objective, one, other, tokens=tokens)
    state = None
    up, down = (field(objective, one + s, other, tokens=tokens, state=state).value for s in (step, -step))
    if name not in ("sgdpo", "kto_pair", "alpha_dpo"):  # these hold a part constant that moves with the point
        torch.testing.assert_close((up - down) / (2 * step), data.d_log_x1, rtol=1e-5, atol=1e-6)
        up, down = (field(objective, one, other + s, tokens=tokens).value for s in (step, -step))
        torch.testing.assert_close((up - down) / (2 * step), data.d_log_x2, rtol=1e-5, atol=1e-6)
    assert data.value.isfinite().all()


@pytest.mark.parametrize("name", ["kto_pair", "aot"])
def test_points_do_not_meet_in_a_batch(name):
    objective = make_objective(name)
    data = field(objective, X1, X2)
    alone = field(objective, X1[2:3], X2[4:5])
    torch.testing.assert_close(data.value[2:3, 4:5], alone.value)
    torch.testing.assert_close(data.d_log_x1[2:3, 4:5], alone.d_log_x1)


def test_state_shapes_the_field():
    objective = AlphaDPO(alpha=0.2)
    fresh, trained = (field(objective, X1, X2, state=s) for s in (None, {"mean": 0.0, "std": 0.1, "count": 50}))
    assert not torch.allclose(fresh.value, trained.value)


def test_the_reference_level_is_stated():
    data = field(make_objective("orpo"), X1, X2, tokens=(2, 2), ref=(-1.0, -1.0))
    assert torch.equal(data.attainable, (X1[:, None] <= 2) & (X2[None, :] <= 2))
    dpo = [field(make_objective("dpo"), X1, X2, ref=(r, r)).value for r in (-1.0, -3.0)]
    torch.testing.assert_close(*dpo)


def test_flow_descends_and_follows_the_field():
    path = flow(make_objective("sgdpo"), [(0.0, 0.0), (-2.0, 1.0)], steps=50, rate=2.0)
    assert path.value.shape == (51, 2)
    assert (path.value.diff(dim=0) < 0).all()
    assert (path.log_x1.diff(dim=0) > 0).all()
    first = field(make_objective("sgdpo"), path.log_x1[0, :1], path.log_x2[0, :1])
    assert float(path.log_x1[1, 0]) == pytest.approx(-2.0 * float(first.d_log_x1), abs=1e-12)
    dpo = flow(make_objective("dpo"), (0.0, 0.0), steps=1, rate=1.0)
    assert float(dpo.value[0]) == pytest.approx(math.log(2))
    torch.testing.assert_close(dpo.log_x1, -dpo.log_x2)


def test_wrong_arguments_are_explained():
    dpo = make_objective("dpo")
    with pytest.raises(ValueError, match="one-dimensional"):
        field(dpo, X1[:, None], X2)
    with pytest.raises(ValueError, match="at least one token"):
        field(dpo, X1, X2, tokens=(0, 3))
    with pytest.raises(ValueError, match="positive rate"):
        flow(dpo, (0.0, 0.0), rate=0.0)
