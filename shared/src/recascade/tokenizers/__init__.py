"""From the content of items to semantic ids: vectors, quantisers, conflicts, and the table that joins items and ids."""
