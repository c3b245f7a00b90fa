"""Radiance fields of other programs: files in and out."""
