"""The thread in which fields are computed uses one core and leaves the others to training."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lab.plots.landscapes import computed


def test_drawing_takes_no_cores_from_training() -> None:
    cores = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        computed._worker.cache_clear()
        assert computed.on_one_core(torch.get_num_threads) == 1
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(cores)


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        computed.on_one_core(divmod, 1, 0)
