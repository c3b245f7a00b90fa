"""Parts of benchmarks/viewer.py."""
