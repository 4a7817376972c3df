"""Idle threads sleep, and spin only in a process that does nothing but train on an idle machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import sys
from lab import threads
threads._others_work = lambda: {work}
{before}
print(threads.spin_where_idle())
import os
print(os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.parametrize(
    ("given", "work", "before", "expected"),
    [
        ({}, 0.0, "", ["True", "None"]),
        ({}, 1.0, "", ["False", "PASSIVE"]),
        ({}, 0.0, "sys.modules['torch'] = None", ["False", "PASSIVE"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, 0.0, "", ["False", "ACTIVE"]),
        ({"GOMP_SPINCOUNT": "5"}, 0.0, "", ["False", "None"]),
        ({"OMP_WAIT_POLICY": "PASSIVE", "LAB_SET_WAIT_POLICY": "1"}, 0.0, "", ["True", "None"]),  # as a detached run inherits it
        ({"WORLD_SIZE": "2"}, 0.0, "", ["False", "PASSIVE"]),
    ],
)
def test_who_spins(given, work, before, expected):
    plain = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "LAB_SET_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(work=work, before=before)],
        env=plain | given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == expected
