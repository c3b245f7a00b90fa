"""One module per published distillation method."""
