"""How many splats there are and where: strategies that add, move and remove them in training."""
