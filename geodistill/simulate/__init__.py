"""Data sets made here, in the field's own formats."""
