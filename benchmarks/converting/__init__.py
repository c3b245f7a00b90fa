"""The parts of benchmarks/convert.py: what is measured, how, where it is kept, how it is shown."""
