"""How much memory there is: the driver's figure, the machine's, and the limit of a shared one."""

from types import SimpleNamespace

import psutil
import pynvml
import pytest

from sm70lib.study import memory
from sm70lib.study.params import StudyError


@pytest.fixture
def cards(monkeypatch):
    """A machine with two GPUs, of 80 and of 24 GB."""
    sizes = [80, 24]
    meter = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: len(sizes),
        "nvmlDeviceGetHandleByIndex": lambda n: n,
        "nvmlDeviceGetMemoryInfo": lambda n: SimpleNamespace(total=sizes[n] * memory.GB),
        "nvmlDeviceGetName": lambda n: f"card {n}",
    }
    for name, answer in meter.items():
        monkeypatch.setattr(pynvml, name, answer)
    for name in (memory.LIMIT, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def test_the_smallest_gpu_that_may_be_used_counts(cards, monkeypatch):
    assert memory.at_hand() == memory.Memory(24, "card 1", True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert memory.at_hand() == memory.Memory(80, "card 0", True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not memory.at_hand().gpu and memory.at_hand().gb == psutil.virtual_memory().total / 1e9


def test_a_limit_lowers_and_never_raises(cards, monkeypatch):
    for limit, gb in (("10.5", 10.5), ("1000", 24)):
        monkeypatch.setenv(memory.LIMIT, limit)
        there = memory.at_hand()
        assert (there.gb, there.gpu, there.limited) == (
            gb,
            True,
            True,
        ) and "SM70_MEMORY_GB" in there.where
    for wrong in ("24 GB", "0", "-1", "", "nan"):
        monkeypatch.setenv(memory.LIMIT, wrong)
        with pytest.raises(StudyError, match="SM70_MEMORY_GB is .*: give a number of GB above 0"):
            memory.at_hand()


def test_without_a_driver_it_is_the_machines(monkeypatch):
    def no_driver():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    monkeypatch.delenv(memory.LIMIT, raising=False)
    assert memory.at_hand() == memory.Memory(
        psutil.virtual_memory().total / 1e9, "this machine", False
    )


def test_sizes_are_never_rounded_below_what_they_are():
    assert [memory.rounded_up(size) for size in (0, 1, 10**6, 10**6 + 1)] == [
        0,
        0.001,
        0.001,
        0.002,
    ]
    assert [memory.words(gb) for gb in (0.0042, 9.96, 137.95, 1380)] == [
        "0.004 GB",
        "10.0 GB",
        "138 GB",
        "1,380 GB",
    ]
