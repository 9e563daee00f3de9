"""The relay: who runs a prefix early, where it is kept, and how a ranking request uses it. Imports no torch."""
