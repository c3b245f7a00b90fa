"""What benchmarks/deform.py is made of."""
