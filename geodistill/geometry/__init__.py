"""What a scene is: state, query, load and save."""
