"""Scenes as pictures see them; other kinds than fields are in `shade.viewable`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from geodistill.cameras import Camera, Similarity
from geodistill.geometry.contraction import Contraction
from geodistill.geometry.fields import Field
from geodistill.render.fields import GBuffer, render_view


class Viewable(Protocol):
    """A scene that cameras can look at.

    `frame` places the cube [-1, 1]^3 about the scene in the world; `views` are the cameras that it
    was made from, where they are known.
    """

    @property
    def frame(self) -> Similarity: ...

    @property
    def views(self) -> Camera | None: ...

    @property
    def color_space(self) -> str: ...

    def parameter_count(self) -> int:
        """Numbers that say what the scene is."""
        ...

    def view(self, camera: Camera, normals: bool = False) -> GBuffer:
        """What one camera sees. Raises UsageError for normals of what has none."""
        ...


@dataclass(frozen=True, eq=False)
class FieldView:
    """A radiance field."""

    field: Field

    @property
    def frame(self) -> Similarity:
        return self.field.frame

    @property
    def views(self) -> Camera | None:
        return self.field.views

    @property
    def color_space(self) -> str:
        return self.field.color_space

    @property
    def contraction(self) -> Contraction:
        return self.field.contraction

    def parameter_count(self) -> int:
        return self.field.parameter_count()

    def view(self, camera: Camera, normals: bool = False) -> GBuffer:
        return render_view(self.field, camera, normals=normals)


def field_or_viewable(scene: Field | Viewable) -> Viewable:
    """What can be looked at, of a field or of what can be looked at already."""
    return FieldView(scene) if isinstance(scene, Field) else scene
