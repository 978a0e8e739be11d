"""Work that is shared ends for all at once."""

from __future__ import annotations

import threading
import time

import pytest

from vzarr.overlay.objects.sharing import share


def test_who_fails_leaves_nobody_at_work():
    together, at_work = threading.Barrier(8), 0
    counting = threading.Lock()

    def work(item: int) -> None:
        nonlocal at_work
        with counting:
            at_work += 1
        together.wait(10)
        try:
            if threading.current_thread() is not threading.main_thread():
                time.sleep(0.02 * item)
                raise OSError(f"no {item}")
        finally:
            with counting:
                at_work -= 1

    with pytest.raises(OSError, match="no"):
        share(work, range(8), 8)
    assert at_work == 0


def test_results_are_in_order():
    assert share(lambda n: n * n, range(50), 8) == [n * n for n in range(50)]
