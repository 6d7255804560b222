"""The built site on this machine, served the way GitHub Pages does it; for the tests and for the PDF."""

import contextlib
import gzip
import hashlib
import http.server
import mimetypes
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
# Chromium may reach this machine and nothing else.
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
COMPRESSED = ("text/", "application/json", "application/xml", "application/javascript", "image/svg+xml")


def documents() -> list[str]:
    """The pages of the contents in reading order, such as "book/01-background"."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


def base_path() -> str:
    """The path below which the site is published, such as "/your-book/"."""
    return urlsplit(yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["html"]["baseurl"]).path


@contextlib.contextmanager
def serve(site: Path = SITE) -> Iterator[str]:
    """Serve a built site while the block runs; yields its address without the last slash."""
    base = base_path()

    class Pages(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = urlsplit(unquote(self.path)).path
            file = (site / path.removeprefix(base)).resolve()
            file = file / "index.html" if file.is_dir() else file
            found = path.startswith(base) and file.is_file() and file.is_relative_to(site.resolve())
            file = file if found else site / "404.html"
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            content = file.read_bytes() if file.is_file() else b""
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            if found and self.headers.get("If-None-Match") == tag:
                self.send_response(304)
                self.end_headers()
                return
            self.send_response(200 if found else 404)
            if kind.startswith(COMPRESSED) and "gzip" in self.headers.get("Accept-Encoding", ""):
                content = gzip.compress(content, 6)
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "max-age=600")
            self.send_header("ETag", tag)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{base.removesuffix('/')}"
    finally:
        server.shutdown()
        server.server_close()
