from __future__ import annotations

from collections.abc import Iterator

import pytest

from geodistill.fit import bounds


@pytest.fixture(scope="module")
def coarse_hulls() -> Iterator[None]:
    """Scenes are carved in few cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "OCCUPANCY_RESOLUTION", 32)
        patch.setattr(bounds, "SEARCH_RESOLUTION", 32)
        yield
