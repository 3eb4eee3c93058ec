"""Show a site on this machine: files of its folder, to this machine alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from typing import Any, Final

from retune.errors import UserError
from retune.leaderboard.site.folder import require_site

HOST: Final = "127.0.0.1"


@contextmanager
def serving(folder: str | Path, port: int = 8000) -> Iterator[tuple[str, Callable[[], None]]]:
    """Open a server for a site.

    Args:
        folder: Holds what :func:`retune.leaderboard.site.build` wrote.
        port: Where to listen; 0 for any free port.

    Yields:
        The address, and what to call to answer requests until interrupted.

    Raises:
        UserError: If the folder is no site, or the port cannot be had.
    """
    root = Path(folder).resolve()
    require_site(root)
    try:
        server = ThreadingHTTPServer((HOST, port), partial(_Files, directory=str(root)))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot listen on port {port} ({reason})", fix="give another --port") from None
    begun = Event()

    def serve() -> None:
        begun.set()
        server.serve_forever(poll_interval=0.1)

    with server:
        try:
            yield f"http://{HOST}:{server.server_port}/", serve
        finally:
            # Where another thread serves, it would go round and round on a closed socket.
            if begun.is_set():
                server.shutdown()


class _Files(SimpleHTTPRequestHandler):
    """Files of one folder, without listings, and no way out of it."""

    server_version, sys_version = "retune", ""
    # Seconds that a connection may say nothing for: each has a thread of its own.
    timeout = 30
    # The only files that a site has; nothing else is served.
    extensions_map = {  # noqa: RUF012
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
    }

    def send_head(self) -> Any:
        """Answer with a file, or say that there is none."""
        root, file = Path(self.directory), Path(self.translate_path(self.path))
        file = file / "index.html" if file == root else file
        # Another name than this machine's own is a stranger's page that pretends to be here.
        known = self.headers.get("Host", "").partition(":")[0].strip().lower() in (HOST, "localhost")
        hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
        # A link anywhere on the way resolves to another place than it stands at.
        try:
            served = file.suffix in self.extensions_map and file.is_file() and file.resolve() == file
        except OSError:  # No file has a name as long as that.
            served = False
        if known and served and not hidden:
            return super().send_head()
        return self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """What no answer goes without."""
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are nobody's business."""
