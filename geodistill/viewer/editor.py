"""The edit that pages of `geodistill deform` share, and the numbers that they ask for."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from geodistill.checks import InputError
from geodistill.deform.features import distance
from geodistill.deform.session import (
    Mirror,
    Session,
    apply_to,
    centring_of,
    expect_own,
    expect_room,
    features_for,
    find_mirrors,
    located,
    places,
    plane_of,
    with_images,
)
from geodistill.deform.sites import likeness
from geodistill.deform.subject import Subject, subject_of
from geodistill.deform.surface import surface_of
from geodistill.geometry.mesh import Mesh, bounds, mesh_digest
from geodistill.lift.files import FeatureSet
from geodistill.lift.sheet import principal_colors
from geodistill.viewer.edits import (
    MirrorsFound,
    PositionsHeader,
    ProgressMessage,
    ReadyMessage,
    RowHeader,
    RowMessage,
    SharedEdit,
    ToEditor,
    encode_edit,
)
from geodistill.viewer.wire import FailureMessage, pack

T = TypeVar("T")
_MOST_SUBJECTS = 2  # sets of features at a time: each is as large as the features
MOST_SITES, MOST_PLANES, MOST_POLISH = 64, 3, 100
"""Of an edit that pages show: handles, and as many anchors; planes that it mirrors itself in;
iterations of its rigid polish, which the server computes."""
_STEPS = 65535
_OPPOSITE = 2.0  # the largest distance between unit features


class _Once(Generic[T]):
    """Made when it is wanted first; who comes meanwhile waits for that."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made: list[T] = []

    def get(self) -> T:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


class Editor:
    """A mesh, its features once they are there, and its edit.

    Args:
        mesh: what is deformed.
        session: the edit to begin with.
        keep: what is done with every edit that a page sends, such as writing it to a file.

    Raises InputError for a session of another mesh, or of more than pages show.
    """

    def __init__(
        self, mesh: Mesh, session: Session, keep: Callable[[Session], None] | None = None
    ) -> None:
        self.mesh, self.session = mesh, session
        self.server = secrets.token_hex(8)
        self.keep = keep
        self.told: Callable[[ToEditor], None] = lambda message: None
        self.surface, self.digest = surface_of(mesh), mesh_digest(mesh)
        self._found: FeatureSet | None = None
        self._mirrors: tuple[Mirror, ...] | InputError | None = None
        self._state: ToEditor = ProgressMessage("", 0, None)
        self._subjects: dict[tuple[str, float], _Once[Subject]] = {}
        self._lock = threading.Lock()
        # Likeness is what a click waits for; nothing that takes long may be before it in a queue.
        names = ("likeness", "path", "edit", "slow")
        self._threads = {name: ThreadPoolExecutor(1, f"editor-{name}") for name in names}
        self.expect_fit(session)

    def state(self) -> list[ToEditor]:
        """What a page is told when it comes."""
        return [self._state, self.shared()]

    def shared(self) -> SharedEdit:
        return SharedEdit(self.server, self.session)

    def advance(self, what: str, done: int, total: int | None) -> None:
        """Features are on their way."""
        self._state = ProgressMessage(what, done, total)
        self.told(self._state)

    def give_up(self, reason: str) -> None:
        """There will be no features."""
        self._state = FailureMessage(0, reason)
        self.told(self._state)

    def bring(self, found: FeatureSet) -> None:
        """Features are there: prepare what the first click needs, and say so. Raises InputError
        for features that tell nothing apart."""
        usual = _Once(lambda: self._made(Session(), found))
        kernel = usual.get().automatic
        self._subjects[_key(Session())] = usual
        self._found = found
        channels = found.features.shape[1]
        self._state = ReadyMessage(found.teacher, channels, kernel.radius, kernel.power)
        self.told(self._state)
        self._threads["path"].submit(lambda: self.subject(self.session).graph)

    async def accept(self, session: Session) -> SharedEdit:
        """`change`, beside what else goes on."""
        return await self._in("edit", lambda: self.change(session))

    def change(self, session: Session) -> SharedEdit:
        """Make a session the edit. Raises InputError where it cannot be kept, or is not one of
        this mesh."""
        self.expect_fit(session)
        with self._lock:
            if self.keep is not None:
                self.keep(replace(session, mesh=self.digest))
            self.session = session
            return self.shared()

    def expect_fit(self, session: Session) -> None:
        """Raise InputError for a session of another mesh, or of more than pages show."""
        expect_own(session, self.digest)
        if max(len(session.handles), len(session.anchors)) > MOST_SITES:
            raise InputError(f"pages take up to {MOST_SITES} handles and as many anchors")
        if session.rigidity > MOST_POLISH:
            raise InputError(f"pages polish in up to {MOST_POLISH} iterations")
        _expect_few(session.mirrors)
        expect_room(session, self.surface)

    async def row(self, message: RowMessage) -> bytes:
        """A row, as a message. Raises InputError for a place that the mesh does not have."""
        return await self._in(message.about, lambda: self._row(message))

    async def polished(self, id: int, session: Session) -> bytes:
        """Positions after a session's edit, as a message. Raises InputError as `apply_to` does."""
        return await self._in("slow", lambda: self._polished(id, session))

    async def mirrors_found(self, id: int) -> MirrorsFound:
        """The planes, as a message. Raises InputError as `mirrors` does."""
        return MirrorsFound(id, await self._in("slow", self.mirrors))

    def mirrors(self) -> tuple[Mirror, ...]:
        """The planes that the mesh is symmetric in. Raises InputError where there is none, or any
        of a continuum, and before the features are there."""
        found = self.found
        if self._mirrors is None:
            try:
                self._mirrors = find_mirrors(self.mesh, found.whitened())
            except InputError as error:
                self._mirrors = InputError(f"{error}: the edit goes on without a mirror")
        if isinstance(self._mirrors, InputError):
            raise self._mirrors
        return self._mirrors

    async def in_background(self, work: Callable[[], T]) -> T:
        """The result of some work that may take long."""
        return await self._in("slow", work)

    def feature_colors(self) -> bytes:
        """Principal components of the features as uint8 RGBA of each position, [P, 4]. Raises
        InputError before they are there."""
        colors = principal_colors(self.found.whitened()[self.surface.first])
        opaque = torch.cat([colors, torch.ones(len(colors), 1)], 1)
        return (opaque * 255).round().to(torch.uint8).numpy().tobytes()

    def close(self) -> None:
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    async def _in(self, name: str, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads[name], work)

    @property
    def found(self) -> FeatureSet:
        """The features. Raises InputError before they are there."""
        if self._found is None:
            raise InputError("the features are still being found: wait until they are there")
        return self._found

    def subject(self, session: Session) -> Subject:
        """The mesh with its features as a session of this method and centring takes them. Raises
        InputError before they are there."""
        found, key = self.found, _key(session)
        with self._lock:
            if key not in self._subjects:
                while len(self._subjects) >= _MOST_SUBJECTS:
                    del self._subjects[next(iter(self._subjects))]
                self._subjects[key] = _Once(lambda: self._made(session, found))
            once = self._subjects[key]
        return once.get()

    def _made(self, session: Session, found: FeatureSet) -> Subject:
        features = features_for(session, found)
        return subject_of(self.mesh, features, centring_of(session), self.surface)

    def _row(self, message: RowMessage) -> bytes:
        _expect_few(message.mirrors)
        session = Session(method=message.method, centring=message.centring)
        entry, surface = message.site, self.surface
        if entry.position is not None:
            entry = located(entry.position, surface, "the place")
        subject = self.subject(session)
        (site,) = places((entry,), "places", surface, subject.table)
        if message.about == "likeness":
            if message.method == "published":
                away = distance(subject.table, site.features[0])
            else:
                away = likeness(subject.table, site)
            longest, kernel = _OPPOSITE, (subject.automatic.radius, subject.automatic.power)
            features = tuple(map(tuple, site.features.tolist()))
        else:
            planes = [plane_of(mirror) for mirror in message.mirrors]
            away = subject.distances(with_images(surface, site, planes))
            longest, kernel, features = float(away.max()), None, ()
        x, y, z = site.center.tolist()
        header = RowHeader(
            message.id,
            message.about,
            len(away),
            longest,
            (x, y, z),
            entry.face,
            entry.barycentric,
            features,
            kernel,
        )
        return pack(encode_edit(header), _steps(away, longest))

    def _polished(self, id: int, session: Session) -> bytes:
        self.expect_fit(session)
        edit = apply_to(session, self.subject(session))
        low, high = bounds(self.mesh)
        moved = edit.vertices[self.surface.first] - (low + high) / 2
        numbers = moved.numpy().astype("<f4").tobytes()
        return pack(encode_edit(PositionsHeader(id, len(moved))), numbers)


def _key(session: Session) -> tuple[str, float]:
    """Sessions that take features alike have the same."""
    return session.method, centring_of(session)


def _expect_few(mirrors: tuple[Mirror, ...]) -> None:
    if len(mirrors) > MOST_PLANES:
        raise InputError(f"pages mirror in up to {MOST_PLANES} planes")


def _steps(away: Tensor, longest: float) -> bytes:
    """Distances as uint16: how many 65535ths of the longest they are."""
    scaled = away.double().mul(_STEPS / max(longest, 1e-300)).round_().clamp_(0, _STEPS)
    return scaled.numpy().astype("<u2").tobytes()
