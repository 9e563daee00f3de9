"""Beam widths per level from what a user types."""

from __future__ import annotations

from collections.abc import Sequence

from recascade.errors import ConfigurationError


def beam_widths(beams: Sequence[int], levels: int) -> tuple[int, ...]:
    """One beam width per level.

    Raises:
        ConfigurationError: neither one width for all levels nor one for each.
    """
    if len(beams) not in (1, levels):
        raise ConfigurationError(
            f"model.beams has {len(beams)} widths, but the ids have {levels} codes; give one width or {levels}."
        )
    return tuple(beams) * (levels if len(beams) == 1 else 1)
