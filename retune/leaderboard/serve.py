"""Show a site on this machine: files of its folder, to this machine alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import unquote, urlsplit

from retune.errors import UserError
from retune.leaderboard.site.folder import require_site

HOST: Final = "127.0.0.1"
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
"""The only files that a site has; nothing else is served."""


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
        server = ThreadingHTTPServer((HOST, port), partial(_Files, root))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot listen on port {port} ({reason})", fix="give another --port") from None
    server.daemon_threads = True
    with server:
        yield f"http://{HOST}:{server.server_port}/", partial(server.serve_forever, poll_interval=0.1)


class _Files(SimpleHTTPRequestHandler):
    """Files of one folder, without listings, and no way out of it."""

    server_version = "retune"
    sys_version = ""

    def __init__(self, root: Path, *args: Any) -> None:
        self.root = root
        super().__init__(*args, directory=str(root))

    def send_head(self) -> Any:
        """Answer with a file, or say that there is none."""
        # Another name than this machine's own is a stranger's page that pretends to be here.
        host = self.headers.get("Host", "").rpartition(":")[0]
        file = self._file()
        if host not in (HOST, "localhost") or file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        opened: IO[bytes] = file.open("rb")
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES[file.suffix])
        self.send_header("Content-Length", str(file.stat().st_size))
        self.end_headers()
        return opened

    def _file(self) -> Path | None:
        """The file that is asked for; None for whatever is not a file of the site."""
        path = unquote(urlsplit(self.path).path)
        parts = [part for part in path.split("/") if part] or ["index.html"]
        if (path.endswith("/") and path != "/") or any(
            part.startswith(".") or "\0" in part for part in parts
        ):
            return None
        file = self.root.joinpath(*parts)
        # A link anywhere on the way resolves to another place than it stands at.
        inside = file.suffix in TYPES and file.is_file() and file.resolve() == file
        return file if inside else None

    def end_headers(self) -> None:
        """What no answer goes without."""
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are nobody's business."""
