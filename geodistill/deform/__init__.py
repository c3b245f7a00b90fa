"""From features on a mesh to its deformation: weights, poses, symmetry, sessions."""
