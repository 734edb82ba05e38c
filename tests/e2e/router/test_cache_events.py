"""The scheduler's own process and a simulated engine that publishes KV events: what happens to its cache behind the scheduler's back."""

from collections.abc import Iterator

import pytest

from tests.e2e.routerkit.chains import Chain
from tests.e2e.routerkit.strangers import listening_chain, reset_is_forgotten, strangers_evict


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with listening_chain("sim") as found:
        yield found


def test_what_strangers_evict_is_not_believed_in(chain: Chain) -> None:
    strangers_evict(chain)


def test_a_cache_that_is_reset_is_forgotten(chain: Chain) -> None:
    reset_is_forgotten(chain)
