"""Pages of one block of memory that was allocated once; nothing is allocated while requests are served."""

from __future__ import annotations

from recascade.errors import ConfigurationError


class PageArena:
    """Hands out page numbers. What lies in a page is the device's affair.

    Pages that follow each other are handed out together where possible, since a run of them is read without a copy.

    Args:
        capacity_bytes: of the memory.
        page_bytes: of a page; the rest of the memory that fills no page stays unused.

    Raises:
        ConfigurationError: not one page fits.
    """

    def __init__(self, capacity_bytes: int, page_bytes: int) -> None:
        self.page_bytes = page_bytes
        self.pages = capacity_bytes // page_bytes
        if not self.pages:
            raise ConfigurationError(
                f"The prefix cache has {capacity_bytes:,} bytes and a page needs {page_bytes:,}; raise "
                "relay.cache.capacity_mib or lower relay.cache.page_tokens."
            )
        # Runs of free pages as first → length, and length's mirror last → first, to join neighbours in O(1).
        self._runs: dict[int, int] = {0: self.pages}
        self._ends: dict[int, int] = {self.pages - 1: 0}
        self.free = self.pages

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages handed out."""
        return (self.pages - self.free) * self.page_bytes

    def take(self, count: int) -> tuple[int, ...] | None:
        """Page numbers, in one run where there is one long enough; None where there are not as many free pages."""
        if count > self.free:
            return None
        for first, length in self._runs.items():
            if length >= count:
                return self._cut(first, count)
        taken: list[int] = []
        while len(taken) < count:
            first, length = next(iter(self._runs.items()))
            taken.extend(self._cut(first, min(length, count - len(taken))))
        return tuple(taken)

    def give(self, pages: tuple[int, ...]) -> None:
        """Take pages back."""
        self.free += len(pages)
        for page in pages:
            first, last = page, page
            if page - 1 in self._ends:
                first = self._ends.pop(page - 1)
                del self._runs[first]
            if page + 1 in self._runs:
                last = page + self._runs.pop(page + 1)
                del self._ends[last]
            self._runs[first] = last - first + 1
            self._ends[last] = first

    def _cut(self, first: int, count: int) -> tuple[int, ...]:
        length = self._runs.pop(first)
        last = first + length - 1
        if length > count:
            self._runs[first + count] = length - count
            self._ends[last] = first + count
        else:
            del self._ends[last]
        self.free -= count
        return tuple(range(first, first + count))
