"""Photometric training of scenes from posed images."""
