"""A cluster in virtual time: the relay's own classes, with only clock and device made up. Imports no torch."""
