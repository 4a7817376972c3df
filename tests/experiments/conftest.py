"""Drivers that look at their runs without waiting in between."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("lab.experiments.driver.INTERVAL", 0.01)
