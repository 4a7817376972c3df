"""TRL 1.16 as an oracle: its own loss code, called with our log-probs, for every loss it shares with the lab.

Value, gradient and logged rewards agree, except where this table says otherwise:

| TRL | ours | difference; who is right |
|---|---|---|
| sigmoid, label_smoothing | dpo | TRL ignores it (hinge, ipo, sigmoid_norm too); ours: cDPO, Eq. 3, authors' code |
| discopop | discopop | TRL: NaN once exp(-x) overflows (inf * 0); ours: the product is finite |
| bco_pair | bco_pair | TRL has no shift; the paper shifts; equal at delta = 0 |
| aot, aot_unpaired | same | loss_i belongs to the rank there, to the pair here; equal in the mean; TRL can smooth labels |
| cpo, orpo: likelihood | same | TRL averages over the tokens of the micro-batch (orpo: prompt included), ours per pair; the |
| | | paper's cpo sums; ours does not change with the company a pair keeps |
| orpo at probability 1 | orpo | TRL: inf or NaN in the gradient; ours: finite |
| kto | kto_pair | TRL: one KL from unrelated completions; ours: two, each from the other side of the batch, as in |
| | | the first public code; equal when TRL is given those completions |
| apo_zero_unpaired | apo_zero | TRL averages over the 2B answers; equal up to the factor 2 |
| simpo_gamma | simpo | gamma there, gamma / beta here; equal |
| rewards/* with ld_alpha | ld_dpo | TRL logs the re-weighted log-ratio, ours the plain one; a matter of taste |

Without a counterpart here: sft, the f-divergences, AlphaPO, CPO's hinge and ipo without reference, TPO. Without one
there: sgdpo, alpha_dpo, spo, r_dpo, dpop, cal_dpo.
"""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import pad

from lab.objectives import OBJECTIVES, make_objective
from tests.objectives.helpers import credit_of, pairs_of, random_pairs

pytest.importorskip("trl")
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer

ACCELERATOR = SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)


class Answers(torch.nn.Module):
    """A model that answers TRL's call with the token log-probs it was given."""

    is_gradient_checkpointing = False

    def __init__(self, logps, align=None):
        super().__init__()
        self.logps, self.align = logps, align

    def forward(self, **_):
        zero = torch.zeros_like(self.logps)
        return SimpleNamespace(
            log_probs=self.logps, log_sum_sq_probs=self.align, entropy=zero, mean_logits=zero, is_top1=zero.bool()
        )


def stacked(chosen, rejected):
    """Chosen above rejected, as TRL has them, padded to one length."""
    length = max(chosen.shape[1], rejected.shape[1])
    return torch.cat([pad(side, (0, length - side.shape[1])) for side in (chosen, rejected)])


def batch_of(p):
    """TRL's inputs: one prompt token before each completion."""
    mask = pad(stacked(p.chosen_mask.long(), p.rejected_mask.long()), (1, 0))
    return {"input_ids": mask, "attention_mask": torch.ones_like(mask), "completion_mask": mask}


def trl_dpo(p, loss_type, **settings):
    """Loss, its gradient by the policy's token log-probs [2B, T], and the mean logged rewards, from DPOTrainer's own code."""
    logps = stacked(p.chosen, p.rejected).requires_grad_()
    options = {"beta": 0.1, "label_smoothing": 0.0, "ld_alpha": None, "use_weighting": False, "tau": 0.05} | settings
    trainer = SimpleNamespace(
        model=Answers(logps, stacked(p.align_chosen, p.align_rejected)),
        ref_model=Answers(stacked(p.ref_chosen, p.ref_rejected)),
        accelerator=ACCELERATOR,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=options.pop("tau")),
        aux_loss_enabled=False,
        precompute_ref_logps=False,
        f_divergence_type="reverse_kl",
        loss_types=[loss_type],
        loss_weights=[1.0],
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        **options,
    )
    loss = DPOTrainer._compute_loss(trainer, trainer.model, batch_of(p), False)
    gradient = torch.autograd.grad(loss, logps)[0] * stacked(p.chosen_mask, p.rejected_mask)  # a model's padding is constant
    rewards = [trainer._metrics["train"][f"rewards/{side}"][0] for side in ("chosen", "rejected")]
    return loss.detach(), gradient, rewards


SHARED = [
    ("sigmoid", "dpo", {}, {}),
    ("hinge", "hinge", {}, {}),
    ("ipo", "ipo", {}, {}),
    ("robust", "robust", {"label_smoothing": 0.2}, {"label_smoothing": 0.2}),
    ("exo_pair", "exo_pair", {"label_smoothing": 0.01}, {"label_smoothing": 0.01}),
    ("nca_pair", "nca_pair", {}, {}),
    ("bco_pair", "bco_pair", {}, {"delta": 0.0}),
    ("sppo_hard", "sppo_hard", {}, {}),
    ("apo_zero", "apo_zero", {}, {}),
    ("apo_down", "apo_down", {}, {}),
    ("aot", "aot", {}, {}),
    ("aot_unpaired", "aot_unpaired", {}, {}),
    ("discopop", "discopop", {"tau": 0.3}, {"tau": 0.3}),
    ("sigmoid_norm", "dpo_norm", {}, {}),
    ("sigmoid", "ld_dpo", {"ld_alpha": 0.4}, {"alpha": 0.4}),
    ("sigmoid", "wpo", {"use_weighting": True}, {}),
]


@pytest.mark.parametrize(("loss_type", "name", "theirs", "ours"), SHARED, ids=[f"{a}-{b}" for a, b, *_ in SHARED])
@pytest.mark.parametrize("beta", [0.1, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_dpo_trainer(loss_type, name, theirs, ours, beta, seed):
    p = random_pairs(seed)
    loss, gradient, rewards = trl_dpo(p, loss_type, beta=beta, **theirs)
    credited = credit_of(make_objective(name, beta=beta, **ours), p)
    torch.testing.assert_close(credited.outcome.losses.mean(), loss, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(stacked(credited.chosen, credited.rejected) / -len(p), gradient, rtol=1e-6, atol=1e-9)
    if name != "ld_dpo":
        terms = credited.outcome.terms
        assert [float(terms[f"reward_{side}"].mean()) for side in ("chosen", "rejected")] == pytest.approx(rewards)


def test_trl_has_no_loss_that_this_file_forgets():
    theirs = {"sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired"}
    theirs |= {"apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"}
    with pytest.raises(ValueError, match="Unknown loss type") as raised:
        trl_dpo(random_pairs(0), "none of them")
    assert {word for word in str(raised.value).split("'") if word.isidentifier()} - theirs <= {"none"}
    assert theirs - {"sft"} == {loss_type for loss_type, *_ in SHARED}
    assert {name for _, name, *_ in SHARED} <= set(OBJECTIVES)


def test_difference_label_smoothing():
    p = random_pairs(0)
    plain, _, _ = trl_dpo(p, "sigmoid", beta=2.0)
    assert torch.equal(trl_dpo(p, "sigmoid", beta=2.0, label_smoothing=0.3)[0], plain)
    assert not torch.isclose(credit_of(make_objective("dpo", beta=2.0, label_smoothing=0.3), p).outcome.losses.mean(), plain)


def test_difference_discopop_overflow():
    side = {"rejected": [-1.0], "ref_chosen": [-1.0], "ref_rejected": [-1.0], "align_chosen": [0.0], "align_rejected": [0.0]}
    p = pairs_of([{"chosen": [-101.0], **side}], torch.float32)
    assert trl_dpo(p, "discopop", beta=1.0)[0].isnan()
    assert float(credit_of(make_objective("discopop", beta=1.0), p).outcome.losses) == pytest.approx(100.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cpo_trainer_simpo(smoothing):
    p = random_pairs(0)
    trainer = SimpleNamespace(
        accelerator=ACCELERATOR, alpha=0.0, loss_type="simpo", beta=2.5, simpo_gamma=1.0, label_smoothing=smoothing
    )
    losses, chosen, rejected = CPOTrainer.cpo_loss(trainer, p.avg_w, p.avg_l)
    outcome = credit_of(make_objective("simpo", beta=2.5, gamma_beta_ratio=0.4, label_smoothing=smoothing), p).outcome
    torch.testing.assert_close(outcome.losses, losses)
    torch.testing.assert_close(outcome.terms["reward_chosen"], chosen)
    torch.testing.assert_close(outcome.terms["reward_rejected"], rejected)


def test_cpo_trainer_cpo():
    p = random_pairs(0)
    trainer = SimpleNamespace(accelerator=ACCELERATOR, alpha=0.0, loss_type="sigmoid", beta=0.3, label_smoothing=0.0)
    losses, chosen, rejected = CPOTrainer.cpo_loss(trainer, p.S_w, p.S_l)
    outcome = credit_of(make_objective("cpo", beta=0.3, nll_weight=0.0), p).outcome
    torch.testing.assert_close(outcome.losses, losses)
    torch.testing.assert_close(outcome.terms["reward_chosen"], chosen)
    torch.testing.assert_close(outcome.terms["reward_rejected"], rejected)


def test_orpo_trainer():
    p = random_pairs(0, dtype=torch.float32)
    trainer = SimpleNamespace(accelerator=ACCELERATOR, beta=0.7)
    weighted, *_ = ORPOTrainer.odds_ratio_loss(trainer, p.avg_w, p.avg_l)
    outcome = credit_of(make_objective("orpo", weight=0.7), p).outcome
    torch.testing.assert_close(outcome.losses, -p.avg_w - weighted)
    zero = torch.zeros(1, requires_grad=True)
    odd, *_ = ORPOTrainer.odds_ratio_loss(trainer, zero, torch.tensor([-1.0]))
    assert not torch.autograd.grad(odd.sum(), zero)[0].isfinite().all()


def trl_kto(p, side, other, loss_type):
    """KTOTrainer's loss on the answers of one side, with the other side's answers as those that its KL is measured on."""
    masks = {"chosen": p.chosen_mask, "rejected": p.rejected_mask}
    logps = getattr(p, side).clone().requires_grad_()
    mask = pad(masks[side].long(), (1, 0))

    def kl_logps(model, _):
        return getattr(p, other).sum(-1) if model is trainer.model else getattr(p, f"ref_{other}").sum(-1)

    trainer = SimpleNamespace(
        model=Answers(logps),
        ref_model=Answers(getattr(p, f"ref_{side}")),
        accelerator=SimpleNamespace(**vars(ACCELERATOR)),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        _compute_kl_logps=kl_logps,
        calculate_KL=loss_type == "kto",
        loss_type=loss_type,
        beta=0.3,
        desirable_weight=1.0,
        undesirable_weight=1.0,
        aux_loss_enabled=False,
        precompute_ref_logps=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    label = torch.full((len(p),), side == "chosen")
    batch = {"input_ids": mask, "attention_mask": mask, "completion_mask": mask, "label": label}
    loss = KTOTrainer._compute_loss(trainer, trainer.model, batch, False)
    return loss.detach(), torch.autograd.grad(loss, logps)[0] * masks[side]


@pytest.mark.parametrize(("loss_type", "name", "halves"), [("kto", "kto_pair", 2), ("apo_zero_unpaired", "apo_zero", 1)])
@pytest.mark.parametrize("seed", range(3))
def test_kto_trainer(loss_type, name, halves, seed):
    p = random_pairs(seed, spread=2.0)
    chosen, chosen_gradient = trl_kto(p, "chosen", "rejected", loss_type)
    rejected, rejected_gradient = trl_kto(p, "rejected", "chosen", loss_type)
    credited = credit_of(make_objective(name, beta=0.3), p)
    torch.testing.assert_close(credited.outcome.losses.mean(), (chosen + rejected) / halves)
    torch.testing.assert_close(-credited.chosen / len(p), chosen_gradient / halves)
    torch.testing.assert_close(-credited.rejected / len(p), rejected_gradient / halves)
    assert math.isfinite(float(chosen))
