"""Conversions without training: the teacher-sample cache and the closed forms."""
