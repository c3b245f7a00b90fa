"""Networks in plain torch; import what you need from its module."""
