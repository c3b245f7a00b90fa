"""Pictures of a field for all the pages that look at it, rendered in one thread beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from geodistill.cameras import Camera
from geodistill.render.viewable import Viewable
from geodistill.viewer.progressive import Pace, bands, header, render_band, scaled_to, sizes
from geodistill.viewer.protocol import CameraMessage, encode_picture


class Latest:
    """A place for one camera: a newer one takes the place of one that was not looked at yet."""

    def __init__(self) -> None:
        self._camera: CameraMessage | None = None
        self._filled = asyncio.Event()

    def put(self, camera: CameraMessage) -> None:
        self._camera = camera
        self._filled.set()

    def waiting(self) -> bool:
        return self._camera is not None

    async def take(self) -> CameraMessage:
        await self._filled.wait()
        camera, self._camera = self._camera, None
        self._filled.clear()
        assert camera is not None
        return camera


class Studio:
    """Renders bands of pictures one after the other; several pages take turns, band by band."""

    def __init__(self, scene: Viewable) -> None:
        self.scene, self.pace = scene, Pace()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="studio")

    async def pictures(
        self, message: CameraMessage, newer: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """Pictures of a camera, as messages. The first one is finished whatever comes, so that
        there is something to see while the camera moves; finer ones stop once there is a `newer`
        camera. The finest is sent band by band."""
        whole = message.camera()
        planned = sizes(whole.size, self.pace, message.moving)
        for number, size in enumerate(planned):
            camera = scaled_to(whole, size)
            last = number == len(planned) - 1 and not message.moving
            parts = []
            for first, count in bands(size, self.pace):
                if number and newer():
                    return
                pixels = await self._render(camera, first, count)
                if last:
                    final = first + count == size[0]
                    yield encode_picture(header(message.id, size, first, count, final), pixels)
                else:
                    parts.append(pixels)
            if parts:
                shown = header(message.id, size, 0, size[0], False)
                yield encode_picture(shown, b"".join(parts))

    async def _render(self, camera: Camera, first: int, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        pixels, seconds = await loop.run_in_executor(
            self._thread, render_band, self.scene, camera, first, count
        )
        self.pace = self.pace.after(count * camera.size[1], seconds)
        return pixels

    def close(self) -> None:
        """Let the band that is being rendered finish, and start no other."""
        self._thread.shutdown(wait=False, cancel_futures=True)
