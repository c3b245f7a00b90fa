"""How a scene becomes pixels: footprints and G-buffers of named channels."""
