"""What benchmarks/lift.py is made of."""
