"""Features of pixels carried onto the elements of a geometry: rendering turned round."""
