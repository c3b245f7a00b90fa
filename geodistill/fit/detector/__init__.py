"""Training of 3D detectors from labelled scans."""
