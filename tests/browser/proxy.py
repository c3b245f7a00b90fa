"""A connection that can be cut, between a page and its server."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class Proxy:
    """Relays connections to a port of this machine until it is told otherwise.

    `hold` names directions, "up" to the server and "down" from it, in which nothing arrives before
    it is released; it never does where the connection is cut first.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._up = True
        self.hold: frozenset[str] = frozenset()
        self._held: list[tuple[socket.socket, bytes]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections, and let no other begin."""
        with self._lock:
            self._up = False
            for pair in self._pairs:
                for end in pair:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
            self._pairs.clear()
            self._held.clear()

    def mend(self) -> None:
        """Let connections begin again."""
        with self._lock:
            self._up = True
            self._release()

    def release(self) -> None:
        """Let what was held arrive, and all that comes after it."""
        with self._lock:
            self._release()

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _release(self) -> None:
        self.hold = frozenset()
        for end, data in self._held:
            end.sendall(data)
        self._held.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if not self._up:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((client, server))
            threading.Thread(target=self._relay, args=(client, server), daemon=True).start()

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as ready, client, server:
            ready.register(client, selectors.EVENT_READ, (server, "up"))
            ready.register(server, selectors.EVENT_READ, (client, "down"))
            with contextlib.suppress(OSError):
                while True:
                    for key, _ in ready.select():
                        assert isinstance(key.fileobj, socket.socket)
                        data = key.fileobj.recv(1 << 16)
                        if not data:
                            return
                        other, way = key.data
                        with self._lock:
                            if way in self.hold:
                                self._held.append((other, data))
                            else:
                                other.sendall(data)
