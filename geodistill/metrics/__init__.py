"""How good a result is: image metrics and fidelity reports."""
