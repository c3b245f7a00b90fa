"""A small mesh with features to deform, and an editor of it."""

from __future__ import annotations

import torch

from geodistill.deform.session import Session
from geodistill.geometry.mesh import Mesh, mesh_digest
from geodistill.lift.files import FeatureSet
from geodistill.viewer.editor import Editor
from tests.deform.shapes import waves


def features_of(mesh: Mesh) -> FeatureSet:
    """Features of where the vertices are."""
    seen = torch.ones(len(mesh.vertices), dtype=torch.bool)
    return FeatureSet(waves(mesh.vertices), seen, "mesh", mesh_digest(mesh), "waves", "feed")


def editor_of(mesh: Mesh, session: Session | None = None) -> Editor:
    """An editor whose features are there."""
    editor = Editor(mesh, session or Session())
    editor.bring(features_of(mesh))
    return editor
