"""Pairs as numbers: what they mean as log-probs, how they are written, and which are refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from lab.objectives import make_objective, pairs_at
from lab.teaching import PairNumbers, format_pairs, pair_logps, parse_pairs

PAIRS = (PairNumbers(1.5, -2.25, (3, 5), (-1.0, -0.5)), PairNumbers(-4.0, 0.0, (6, 2)), PairNumbers(0.1, 0.2, (1, 1), (0.0, -3.0)))

log_ratios = some.floats(-1000, 1000)
lengths = some.integers(1, 4096)
levels = some.floats(-50, 0)


def test_every_token_of_a_side_has_the_reference_and_its_share_of_the_log_ratio() -> None:
    batch = pair_logps(PAIRS)
    assert batch.chosen.dtype == torch.float64
    torch.testing.assert_close(batch.X1, torch.tensor([1.5, -4.0, 0.1], dtype=torch.float64))
    torch.testing.assert_close(batch.X2, torch.tensor([-2.25, 0.0, 0.2], dtype=torch.float64))
    assert batch.n_w.tolist() == [3, 6, 1]
    assert batch.n_l.tolist() == [5, 2, 1]
    torch.testing.assert_close(batch.R_w, torch.tensor([-3.0, -12.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(batch.chosen[0, :3], torch.full((3,), -0.5, dtype=torch.float64))
    assert (batch.chosen[0, 3:] == 0).all()


def test_a_pair_is_the_point_of_the_plane_with_its_numbers() -> None:
    one = PAIRS[0]
    point = pairs_at(
        make_objective("dpo"), torch.tensor([1.5]).double(), torch.tensor([-2.25]).double(), tokens=one.tokens, ref=one.ref
    )
    batch = pair_logps([one])
    for name in ("chosen", "rejected", "ref_chosen", "ref_rejected", "chosen_mask", "rejected_mask"):
        torch.testing.assert_close(getattr(batch, name), getattr(point, name))


def test_padding_changes_nothing() -> None:
    objective = make_objective("simpo")
    together, _ = objective(pair_logps(PAIRS), {}, {}, training=True)
    for number, pair in enumerate(PAIRS):
        alone, _ = objective(pair_logps([pair]), {}, {}, training=True)
        torch.testing.assert_close(together.losses[number], alone.losses[0])


@given(
    some.lists(
        some.builds(PairNumbers, log_ratios, log_ratios, some.tuples(lengths, lengths), some.tuples(levels, levels)),
        min_size=1,
        max_size=12,
    )
)
def test_the_text_brings_every_number_back(pairs: list[PairNumbers]) -> None:
    assert parse_pairs(format_pairs(pairs)) == tuple(pairs)


def test_whole_numbers_are_written_short() -> None:
    assert format_pairs([PairNumbers(2.0, -1.5)]) == "2,-1.5,8,8,-2,-2"
    assert parse_pairs(" 2, -1.5, 8, 8, -2, -2 ; 0,0,1,1,0,0;") == (PairNumbers(2, -1.5), PairNumbers(0, 0, (1, 1), (0, 0)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 pairs; give 1 to 12"),
        (";".join(["0,0,8,8,-2,-2"] * 13), "13 pairs; give 1 to 12"),
        ("0,0,8,8,-2,-2;1,2", "Pair 2 of the batch is '1,2'; write six numbers"),
        ("0,0,8,8,-2,x", "write six numbers"),
        ("0,0,8.5,8,-2,-2", "whole numbers"),
        ("0,0,nan,8,-2,-2", "write six numbers"),
        ("nan,0,8,8,-2,-2", "Pair 1 of the batch: log X₁ is nan"),
        ("0,inf,8,8,-2,-2", "log X₂ is inf"),
        ("0,0,0,8,-2,-2", "give 1 to 4096"),
        ("0,0,8,8,1,-2", "give -50 to 0"),
        ("0,0,8,8,-2,nan", "give -50 to 0"),
    ],
)
def test_a_wrong_batch_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse_pairs(text)
    assert str(error.value).endswith(".")


def test_a_batch_without_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        pair_logps([])


def test_a_pair_knows_whether_a_probability_would_exceed_one() -> None:
    assert PairNumbers(16.0, 16.0).attainable
    assert not PairNumbers(16.1, 0.0).attainable
    assert not PairNumbers(0.0, 16.1).attainable
