"""The closed forms of SGDPO's theorems equal autograd on the library's objective."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.teaching.sgdpo_theorems import autograd_partials, theorem_1, theorem_3

point, betas = st.floats(-6, 6), st.floats(0.05, 3)


@given(beta=betas, x1=point, x2=point, y1=point, y2=point)
def test_theorem_1(beta, x1, x2, y1, y2):
    closed, measured = theorem_1(x1, x2, y1, y2, beta=beta), autograd_partials(x1, x2, y1, y2, beta=beta)
    assert measured.d_x1 == pytest.approx(closed.d_x1, rel=1e-9)
    assert measured.d_x2 == pytest.approx(closed.d_x2, rel=1e-9)
    assert closed.d_x1 > 0 > closed.d_x2


@given(beta=betas, x1=point, x2=point, a=st.floats(-2, 2), b=st.floats(-2, 2))
def test_theorem_3(beta, x1, x2, a, b):
    ratio = autograd_partials(x1, x2, x1 + a, x2 + b, beta=beta).ratio
    assert ratio == pytest.approx(theorem_3(x1, x2, a=math.exp(a), b=math.exp(b), beta=beta), rel=1e-8)


def test_pilots_that_are_the_whole_answers_have_dpos_ratio():
    assert theorem_3(1.0, -2.0, a=1.0, b=1.0) == pytest.approx(math.exp(-3))
