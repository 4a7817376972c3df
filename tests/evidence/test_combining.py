"""Probabilities of flipped labels: calibrated where their model holds, wide where the labels do not tell, and put into words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lab.evidence import flip_findings, share_sentence
from lab.evidence.combining import Combined, combine
from lab.evidence.suspects import LEAST_GAIN


def labels(count: int, slope: float, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Margins signed by labels of a Bradley-Terry model, and which of the labels were exchanged; both [N]."""
    rng = np.random.default_rng(seed)
    gap = rng.normal(size=count)
    signed = np.where(rng.random(count) < 1 / (1 + np.exp(-slope * gap)), gap, -gap)
    flipped = rng.random(count) < share
    return np.where(flipped, -signed, signed), flipped


def alone(margin: np.ndarray) -> Combined:
    return combine({"runs": margin}, {"runs": margin})


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_probabilities_are_calibrated_where_labels_follow_the_model(share):
    margin, flipped = labels(4000, 4.0, share)
    combined = alone(margin)
    low, high = combined.interval
    assert low - 0.005 <= flipped.mean() <= high + 0.005
    assert high - low < 0.1
    bins = np.minimum((combined.probability * 5).astype(int), 4)
    error = sum(abs(combined.probability[bins == k].sum() - flipped[bins == k].sum()) for k in range(5)) / 4000
    assert error < 0.03
    order = np.argsort(combined.margin)
    assert (np.diff(combined.probability[order]) <= 1e-12).all()


def test_a_share_that_the_labels_do_not_tell_is_averaged_over():
    margin, flipped = labels(900, 1.0, 0.3, seed=1)
    combined = alone(margin)
    low, high = combined.interval
    assert low < 0.1
    assert high > 0.3, "the true share is not excluded"
    assert 0.08 < combined.probability.mean() < 0.4, "neither 0 nor as if all shares up to one half were certain"
    assert combined.if_few.mean() == pytest.approx(low, abs=0.02)
    assert combined.if_many.mean() == pytest.approx(high, abs=0.08)
    suspicious = combined.margin < 0
    assert (combined.if_few < combined.probability)[suspicious].all()
    assert (combined.probability < combined.if_many)[suspicious].all()
    assert combined.probability[flipped].mean() > combined.probability[~flipped].mean()


def test_evidence_without_information_gains_nothing():
    rng = np.random.default_rng(3)
    gains = [alone(rng.normal(size=200)).gain for _ in range(15)]
    assert max(gains) < LEAST_GAIN
    assert alone(labels(300, 2.0, 0.1)[0]).gain > LEAST_GAIN
    nothing = alone(np.zeros(20))
    assert nothing.gain == 0
    assert np.ptp(nothing.probability) == 0


def test_models_that_were_trained_on_a_pair_do_not_excuse_its_label():
    margin, flipped = labels(1000, 4.0, 0.2)
    combined = combine({"runs": margin}, {"runs": 0.5 * margin + 2.0})  # every label is favoured by the same amount
    np.testing.assert_allclose(combined.probability, alone(margin).probability, atol=1e-9)
    assert combined.probability.mean() == pytest.approx(flipped.mean(), abs=0.03)


def frame(low: float, high: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "pair_id": ["a", "b", "c"],
            "probability": [0.9, (low + high) / 2, 0.1],
            "probability_if_few": [0.85, low, 0.1],
            "probability_if_many": [0.95, high, 0.1],
            "held_out_margin": [-1.0, 0.2, 1.0],
        }
    )


def test_findings_name_the_range_of_an_uncertain_probability():
    certain, uncertain = (finding.sentence for finding in flip_findings(frame(0.2, 0.9)))
    assert "prefer the rejected answer (margin -1.00)" in certain
    assert "probability of 90%." in certain
    assert "prefer the chosen answer, but its words speak against it (margin 0.20)" in uncertain
    assert "55%, 20% to 90% depending on the share" in uncertain


def test_the_share_in_words():
    wide, narrow = share_sentence(frame(0.2, 0.9)), share_sentence(frame(0.5, 0.6))
    assert "uncertain, 38% to 65%" in wide
    assert "rely on the order" in wide
    assert narrow == "48% to 55% of the labels are probably flipped."
    assert share_sentence(frame(0.2, 0.9)[:0]) == ""
