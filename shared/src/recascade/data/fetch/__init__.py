"""Fetching public data sets: a catalogue of what lies where, and downloads that are resumed and checked."""
