"""A G-buffer becomes an image: colour spaces, textures, lights; pure differentiable torch."""
