"""Beam widths per level from what a user types."""

from __future__ import annotations

from collections.abc import Sequence

from recascade.errors import ConfigurationError


def beam_widths(beams: Sequence[int], levels: int, setting: str = "model.beams") -> tuple[int, ...]:
    """One beam width per level; ``setting`` is what the user typed them as.

    Raises:
        ConfigurationError: neither one width for all levels nor one for each.
    """
    if len(beams) not in (1, levels):
        raise ConfigurationError(
            f"{setting} has {len(beams)} widths, but the ids have {levels} codes; give one width or {levels}."
        )
    return tuple(beams) * (levels if len(beams) == 1 else 1)
