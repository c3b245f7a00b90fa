"""Boxes: their conventions, how they overlap, and which of them to keep."""
