"""Files in and out, one module per format family; import what you need from its module."""
