"""Where a handle or an anchor sits: a point of the surface, or a region of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill.checks import InputError, check
from geodistill.deform.features import similarity
from geodistill.deform.surface import Surface

_PROTOTYPES = 32


@dataclass(frozen=True, eq=False)
class Site:
    """A place on a surface, and the features that stand for it."""

    vertices: Tensor  # int64 [n] positions that belong to it wholly
    features: Tensor  # float32 [m, D] unit
    center: Tensor  # float64 [3]


def point_site(surface: Surface, table: Tensor, face: int, barycentric: Tensor) -> Site:
    """A point of a face by its barycentric weights [3]; the face's three corners belong to it.

    Raises InputError for a face that is not there, weights outside the face, or a point whose
    feature is zero.
    """
    check(barycentric=(barycentric, "3"))
    if not 0 <= face < len(surface.faces):
        raise InputError(f"face {face} is not one of the mesh's {len(surface.faces)}")
    weights = barycentric.double()
    if not (bool((weights >= 0).all()) and abs(float(weights.sum()) - 1) < 1e-4):
        raise InputError(
            f"barycentric weights must be at least 0 and add to 1, got {weights.tolist()}"
        )
    corners = surface.faces[face]
    feature = table[:, corners] @ weights.float()
    return Site(corners, _unit(feature[None]), weights @ surface.positions[corners])


def vertex_site(surface: Surface, table: Tensor, vertex: int) -> Site:
    """A vertex, by its number in the mesh. Raises InputError where there is none."""
    return region_site(surface, table, torch.tensor([vertex]))


def region_site(surface: Surface, table: Tensor, vertices: Tensor) -> Site:
    """A set of vertices, int64 [n], by their numbers in the mesh; all of them belong to it.

    What resembles any part of the region resembles the region: it is stood for by up to 32 of its
    features, each the farthest from those before it. (Their mean would be like no part of a
    region that spans two.) The center is the mean position.

    Raises InputError for an empty set, a vertex that is not there, or features that are zero.
    """
    count = len(surface.welded)
    if not len(vertices):
        raise InputError("a region needs at least one vertex")
    if int(vertices.min()) < 0 or int(vertices.max()) >= count:
        raise InputError(f"vertices {_shown(vertices)} are not all among the mesh's {count}")
    places = surface.welded[vertices].unique()
    features = table[:, places].T
    features = features[(features != 0).any(1)]
    return Site(places, _unit(_farthest(features)), surface.positions[places].mean(0))


def likeness(table: Tensor, site: Site) -> Tensor:
    """Distance [P] in feature space to the nearest of a site's features."""
    nearest = similarity(table, site.features[0])
    for start in range(1, len(site.features), 8):
        more = similarity(table, site.features[start : start + 8])
        nearest = torch.maximum(nearest, more.amax(0))
    return (2 - 2 * nearest).clamp_min_(0).sqrt_()


def site_distance(one: Site, two: Site) -> float:
    """Smallest distance in feature space between two sites."""
    closest = float((one.features.double() @ two.features.double().T).max())
    return max(2 - 2 * closest, 0.0) ** 0.5


def _farthest(features: Tensor) -> Tensor:
    if len(features) <= 1:
        return features
    chosen = [int((features @ features.mean(0)).argmax())]
    nearest = features @ features[chosen[0]]
    while len(chosen) < min(_PROTOTYPES, len(features)):
        farthest = int(nearest.argmin())
        if float(nearest[farthest]) > 1 - 1e-6:
            break
        chosen.append(farthest)
        nearest = torch.maximum(nearest, features @ features[farthest])
    return features[chosen]


def _unit(features: Tensor) -> Tensor:
    if not len(features) or not bool((features != 0).any(1).all()):
        raise InputError(
            "there is no feature where the handle or anchor sits: choose another place"
        )
    return F.normalize(features, dim=1, eps=1e-30)


def _shown(vertices: Tensor) -> str:
    text = str(vertices[:5].tolist())
    return text if len(vertices) <= 5 else f"{text[:-1]}, ...]"
