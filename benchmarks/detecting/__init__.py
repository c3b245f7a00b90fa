"""What benchmarks/detector.py and benchmarks/students.py are made of."""
