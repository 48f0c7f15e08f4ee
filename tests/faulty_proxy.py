"""HTTP proxy of a server that answers some requests wrongly; program: PORT TARGET_HOST:PORT.

A path with KIND-NUM, such as /bucket/slow_down-2/x, gets NUM wrong answers for each method before it gets the
server's. Kinds: slow_down (503), denied (403), cut (half of the answer, then the connection ends).
"""

import re
import sys
from collections import Counter
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_ANSWERS = {
    "slow_down": (
        503,
        b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    ),
    "denied": (403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"),
}
#: Wrong answers so far, by method and path.
_num_wrong: Counter = Counter()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target = ""

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self._wrong_kind()
        if kind in _ANSWERS:
            self._send(*_ANSWERS[kind], {})
            return
        server = HTTPConnection(self.target)
        server.request(self.command, self.path, content, dict(self.headers))
        answer = server.getresponse()
        self._send(answer.status, answer.read(), dict(answer.getheaders()), is_cut=kind == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer

    def _wrong_kind(self) -> str | None:
        match = re.search(r"(slow_down|denied|cut)-(\d+)", self.path)
        key = (self.command, self.path)
        if match is None or _num_wrong[key] >= int(match[2]):
            return None
        _num_wrong[key] += 1
        return match[1]

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, is_cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        length = headers.get("Content-Length", "0") if is_head else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if not is_head:
            self.wfile.write(content[: len(content) // 2] if is_cut else content)
        self.close_connection = self.close_connection or is_cut


if __name__ == "__main__":
    _Handler.target = sys.argv[2]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
