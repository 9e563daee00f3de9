"""The parts of ``benchmarks/suite.py``: what is measured, one file each."""
