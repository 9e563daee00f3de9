"""The benchmark: the registry of methods, the configuration of runs, where they are computed and kept."""
