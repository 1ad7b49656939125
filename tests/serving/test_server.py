from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from serving import server


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_garbage_is_collected_again_once_the_ports_are_open() -> None:
    with server._everything_kept():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_garbage_is_collected_again_where_a_package_is_missing() -> None:
    with pytest.raises(ModuleNotFoundError), server._everything_kept():
        raise ModuleNotFoundError
    assert gc.isenabled()
