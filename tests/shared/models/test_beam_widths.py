from __future__ import annotations

import pytest

from recascade.errors import ConfigurationError
from recascade.models.beam_widths import beam_widths


def test_one_width_holds_for_all_levels_and_several_must_be_as_many_as_levels() -> None:
    assert beam_widths([50], 3) == (50, 50, 50)
    assert beam_widths([12, 25, 50], 3) == (12, 25, 50)
    with pytest.raises(ConfigurationError, match="2 widths, but the ids have 3 codes"):
        beam_widths([10, 20], 3)
