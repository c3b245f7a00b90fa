"""A spinning LiDAR in generated streets."""
