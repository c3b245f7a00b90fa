"""Damaged files for every reader: seeds, damage, and processes that read them within limits."""
