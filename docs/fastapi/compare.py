"""Compares what a FastAPI application answers directly with what it answers through sidecache.

    python -m venv venv && venv/bin/pip install fastapi 'uvicorn[standard]' websockets
    cargo build --release
    venv/bin/python docs/fastapi/compare.py [path/to/sidecache]

It speaks HTTP/1.1 over plain sockets, so that nothing between it and the wire hides a difference. Each GET is made four times:
directly; through the sidecar on a path that no route matches; and twice on a path with a route, where the first request fills
the cache. It ends with 1 if anything differs that a proxy must not change.
"""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import namedtuple

import websockets.exceptions
from websockets.sync.client import connect

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

CONFIG = """
[[route]]
name = "cached"
match = "/cached/{*rest}"
ttl = "1m"
unkeyed_headers = "drop"
"""

# What a proxy adds or owns: on responses, and on requests as the backend sees them. Date is of the second.
PROXY_FIELDS = {"via", "cache-status", "age", "date", "connection", "keep-alive"}
PROXY_REQUEST_FIELDS = {"via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "connection", "keep-alive", "expect"}
FRAMING = {"content-length", "transfer-encoding"}

Response = namedtuple("Response", "status reason fields body pieces")
compared = 0
different = 0


class Connection:
    """A connection with HTTP/1.1 by hand."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, method, target, fields=(), body=None, chunked=False, expect=False):
        lines = [f"{method} {target} HTTP/1.1", "Host: api.example"] + [f"{name}: {value}" for name, value in fields]
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        elif body is not None:
            lines.append(f"Content-Length: {len(body)}")
        if expect:
            lines.append("Expect: 100-continue")
        self.socket.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        if expect:
            line = self.file.readline()
            assert b" 100 " in line, line
            assert self.file.readline() == b"\r\n"
        if chunked:
            for start in range(0, len(body), 70_000):
                piece = body[start : start + 70_000]
                self.socket.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.socket.sendall(b"0\r\n\r\n")
        elif body is not None:
            self.socket.sendall(body)
        return self.read(method)

    def head(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("closed before a response")
        _, status, reason = line.decode("latin-1").rstrip("\r\n").split(" ", 2)
        fields = []
        while (line := self.file.readline()) != b"\r\n":
            name, _, value = line.decode("latin-1").rstrip("\r\n").partition(":")
            fields.append((name.lower(), value.strip()))
        return int(status), reason, fields

    def read(self, method):
        status, reason, fields = self.head()
        framing = dict(field for field in fields if field[0] in FRAMING)
        body, pieces, begun = b"", [], time.monotonic()
        if method == "HEAD" or status in (204, 304):
            pass
        elif "transfer-encoding" in framing:
            while True:
                size = self.file.readline()
                if not size:
                    raise ConnectionError(f"cut after {len(body)} octets")
                piece = self.file.read(int(size, 16))
                self.file.readline()
                if not piece:
                    break
                body += piece
                pieces.append((round(time.monotonic() - begun, 3), piece))
        elif "content-length" in framing:
            body = self.file.read(int(framing["content-length"]))
            if len(body) < int(framing["content-length"]):
                raise ConnectionError(f"cut after {len(body)} octets")
        else:
            body = self.file.read()
        return Response(status, reason, fields, body, pieces)


def say(is_right, what, detail=""):
    global compared, different
    compared += 1
    different += not is_right
    print(f"{'same' if is_right else 'DIFFERENT':<10}{what:<66}{detail}".rstrip())


def own(fields, names):
    """The fields that a proxy has no business with, sorted by name; those of one name stay in their order."""
    return sorted((field for field in fields if field[0] not in names and field[0] not in FRAMING), key=lambda field: field[0])


def normal(body, prefix):
    """Makes an echo's report comparable: leaves out what the proxy adds to requests, and the prefix of the path."""
    try:
        report = json.loads(body)
    except ValueError:
        return body
    if not isinstance(report, dict) or "fields" not in report or "target" not in report:
        return body
    report["target"][0] = report["target"][0].removeprefix(prefix)
    fields = [tuple(field) for field in report["fields"] if field[0] not in PROXY_REQUEST_FIELDS]
    report["fields"] = sorted(fields, key=lambda field: field[0])
    return report


def differences(direct, proxied, prefix, is_stored):
    found = []
    if (direct.status, direct.reason) != (proxied.status, proxied.reason):
        found.append(f"status {direct.status} {direct.reason} / {proxied.status} {proxied.reason}")
    before, after = own(direct.fields, PROXY_FIELDS), own(proxied.fields, PROXY_FIELDS)
    # A redirect names its own path.
    after = [(name, value.replace(prefix, "", 1) if prefix and name == "location" else value) for name, value in after]
    if before != after:
        found.append(f"fields -{[f for f in before if f not in after]} +{[f for f in after if f not in before]}")
    if normal(direct.body, "") != normal(proxied.body, prefix):
        found.append(f"body of {len(direct.body)} / {len(proxied.body)} octets")
    framing = [sorted(field for field in response.fields if field[0] in FRAMING) for response in (direct, proxied)]
    echoes = isinstance(normal(direct.body, ""), dict)
    if framing[0] != framing[1] and not echoes:
        # What is stored is whole, so its length is known: HTTP lets a recipient frame it anew.
        if not (is_stored and [name for name, _ in framing[1]] == ["content-length"] and int(framing[1][0][1]) == len(direct.body)):
            found.append(f"framing {framing[0]} / {framing[1]}")
    return found


def status_of(response):
    values = [value for name, value in response.fields if name == "cache-status"]
    return values[-1] if values else "-"


def compare(what, direct, proxied, prefix=""):
    shown = re.sub(r"^sidecache; ", "", status_of(proxied))
    found = differences(direct, proxied, prefix, " hit" in status_of(proxied))
    detail = "; ".join(found) if found else f"{direct.status}, {len(direct.body)} octets; {shown}"
    say(not found, what, detail)


def everywhere(backend, sidecar, target, fields=(), method="GET", cached=True, what=None):
    """One request directly and through the sidecar; a GET on a cached path as well, twice."""
    shown = what or f"{method} {target}"
    direct = Connection(backend).send(method, target, fields)
    compare(shown, direct, Connection(sidecar).send(method, target, fields))
    if cached:
        # One connection for both: what a response leaves behind would disturb the next.
        connection = Connection(sidecar)
        for turn in ("first", "second"):
            proxied = connection.send(method, "/cached" + target, fields)
            compare(f"{shown}, with a route, {turn}", direct, proxied, "/cached")


def plain(backend, sidecar):
    print("\n--- GET, errors, fields")
    everywhere(backend, sidecar, "/items/1")
    everywhere(backend, sidecar, "/items/2?q=a%20b&x=%C3%A9&&y=")
    everywhere(backend, sidecar, "/text", [("Accept-Encoding", "gzip")], what="GET /text with gzip")
    everywhere(backend, sidecar, "/text", [("Accept-Encoding", "identity")], what="GET /text without gzip")
    everywhere(backend, sidecar, "/empty")
    everywhere(backend, sidecar, "/fields")
    everywhere(backend, sidecar, "/repeated")
    everywhere(backend, sidecar, "/redirect")
    everywhere(backend, sidecar, "/slash", what="GET /slash (redirect to /slash/)")
    everywhere(backend, sidecar, "/nothing-here")
    everywhere(backend, sidecar, "/items/none", what="GET /items/none (422)", cached=False)
    everywhere(backend, sidecar, "/error/401")
    everywhere(backend, sidecar, "/error/503")
    everywhere(backend, sidecar, "/crash", what="GET /crash (500)")
    everywhere(backend, sidecar, "/file")
    everywhere(backend, sidecar, "/file", [("Range", "bytes=10-19")], cached=False, what="GET /file, a range")
    etag = dict(Connection(backend).send("GET", "/file").fields)["etag"]
    for target in ("/file", "/cached/file"):
        Connection(sidecar).send("GET", target)
        direct = Connection(backend).send("GET", target, [("If-None-Match", etag)])
        proxied = Connection(sidecar).send("GET", target, [("If-None-Match", etag)])
        if target == "/cached/file" and direct.status == 200:
            # The application has no conditions of its own; the cache answers them.
            ok = proxied.status == 304 and not proxied.body and dict(proxied.fields)["etag"] == etag
            say(ok, f"GET {target}, If-None-Match", f"200 / {proxied.status}: the cache answers the condition; {status_of(proxied)}")
        else:
            compare(f"GET {target}, If-None-Match", direct, proxied)
    everywhere(backend, sidecar, "/openapi.json", cached=False)


def methods(backend, sidecar):
    print("\n--- Other methods")
    plain_text = [("Accept-Encoding", "identity")]
    everywhere(backend, sidecar, "/text", plain_text, method="HEAD")
    everywhere(backend, sidecar, "/items/1", method="HEAD", what="HEAD /items/1 (405)", cached=False)
    stored = Connection(sidecar).send("GET", "/cached/items/1")
    answer = Connection(sidecar).send("HEAD", "/cached/items/1")
    ok = answer.status == 200 and not answer.body and own(answer.fields, PROXY_FIELDS) == own(stored.fields, PROXY_FIELDS)
    say(ok, "HEAD /cached/items/1 (405), a GET was stored", f"405 / {answer.status}: the cache answers it from the GET; {status_of(answer)}")
    everywhere(backend, sidecar, "/items/1", method="OPTIONS", what="OPTIONS /items/1 (405)")
    preflight = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "PUT"), ("Access-Control-Request-Headers", "x-a")]
    everywhere(backend, sidecar, "/items/1", preflight, method="OPTIONS", what="OPTIONS /items/1, a preflight")
    everywhere(backend, sidecar, "/items/1", [("Origin", "https://app.example")], what="GET /items/1 from another origin")
    everywhere(backend, sidecar, "/echo", method="PROPFIND", what="PROPFIND /echo")
    direct, proxied = Connection(backend), Connection(sidecar)
    item = json.dumps({"name": "tea", "price": 1.5}).encode()
    kind = [("Content-Type", "application/json")]
    for method, target, fields, body in [
        ("POST", "/items", kind, item),
        ("POST", "/items", kind, b'{"name": 1}'),
        ("POST", "/items", kind, b"{not json"),
        ("POST", "/items", [], b""),
        ("PUT", "/items/3", kind, item),
        ("PATCH", "/items/3", kind, item),
        ("DELETE", "/items/3", [], None),
        ("POST", "/cached/items", kind, item),
        ("POST", "/echo", [("Content-Type", "application/x-www-form-urlencoded")], b"a=1&b=%20"),
        ("QUERY", "/echo", kind, item),
        ("POST", "/nothing-here", kind, item),
        ("DELETE", "/items", [], None),
    ]:
        one, other = (c.send(method, target, fields, body) for c in (direct, proxied))
        compare(f"{method} {target}, all on one connection", one, other)


def requests_as_seen(backend, sidecar):
    print("\n--- Requests as the backend sees them")
    fields = [
        ("X-Multi", "a"),
        ("Accept", "text/html"),
        ("X-Multi", "b, c"),
        ("Cookie", "a=1; b=2"),
        ("Authorization", "Bearer abc"),
        ("X-Empty", ""),
        ("X-Latin", "caf\xe9"),
        ("User-Agent", "compare/1"),
    ]
    everywhere(backend, sidecar, "/echo?x=1&x=2&%7e=%2F", fields, cached=False, what="GET /echo with all kinds of fields")
    everywhere(backend, sidecar, "/echo?q=%E2%98%95", [("Accept", "*/*")], what="GET /echo")
    upload = bytes(range(256)) * 4096 * 10
    for name, options in [("", {}), (", chunked", {"chunked": True}), (", Expect: 100-continue", {"expect": True})]:
        one = Connection(backend).send("POST", "/echo", [], upload, **options)
        other = Connection(sidecar).send("POST", "/echo", [], upload, **options)
        compare(f"POST /echo, 10 MiB{name}", one, other)
    report = json.loads(Connection(sidecar).send("GET", "/echo", [("X-Forwarded-For", "1.2.3.4"), ("Forwarded", "for=6.6.6.6")]).body)
    added = sorted(tuple(field) for field in report["fields"] if field[0] in PROXY_REQUEST_FIELDS or field[0] == "forwarded")
    expected = [("via", "1.1 sidecache"), ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-host", "api.example"), ("x-forwarded-proto", "http")]
    say(added == expected, "what the sidecar adds to a request", str(added))


def large(backend, sidecar):
    print("\n--- 10 MiB down")
    everywhere(backend, sidecar, "/big")
    everywhere(backend, sidecar, "/big-stream")
    expected = hashlib.sha256(bytes(range(256)) * 4096 * 10).hexdigest()
    say(hashlib.sha256(Connection(sidecar).send("GET", "/cached/big-stream").body).hexdigest() == expected, "SHA-256 of the body")


def streaming(backend, sidecar):
    print("\n--- Streaming: pieces arrive when they are sent")
    for target in ("/stream", "/events"):
        everywhere(backend, sidecar, target)
        ways = [(backend, target, "directly"), (sidecar, target, "through sidecache"), (sidecar, f"/cached{target}?new", "while it is stored")]
        for port, path, name in ways:
            pieces = Connection(port).send("GET", path).pieces
            times = [at for at, _ in pieces]
            gaps = [round(later - earlier, 2) for earlier, later in zip(times, times[1:])]
            say(len(pieces) == 5 and all(0.05 < gap < 0.3 for gap in gaps), f"GET {target} {name}", f"{len(pieces)} pieces, {gaps} s apart")
    for port, name in ((backend, "directly"), (sidecar, "through sidecache")):
        before = json.loads(Connection(backend).send("GET", "/streams-ended").body)["ended"]
        connection = Connection(port)
        connection.socket.sendall(b"GET /events?count=1000 HTTP/1.1\r\nHost: api.example\r\n\r\n")
        connection.head()
        connection.file.close()
        connection.socket.close()
        time.sleep(0.6)
        after = json.loads(Connection(backend).send("GET", "/streams-ended").body)["ended"]
        say(after == before + 1, f"a client leaves, {name}: the backend hears of it", f"{before} -> {after} streams ended")
    for target in ("/broken", "/cached/broken", "/cached/broken"):
        ends = []
        for port in (backend, sidecar):
            try:
                Connection(port).send("GET", target)
                ends.append("whole")
            except (ConnectionError, ValueError) as error:
                ends.append(str(error))
        say(ends[0] == ends[1], f"GET {target}: a body that breaks stays broken", str(ends))


def sockets(backend, sidecar):
    print("\n--- WebSocket")

    def talk(port, path):
        said = []
        with connect(f"ws://127.0.0.1:{port}{path}", subprotocols=["chat.v2", "chat.v1"], max_size=2**24) as socket:
            said += [socket.response.status_code, socket.response.headers["x-socket"], socket.subprotocol]
            for message in ("hello", "Zażółć ☕", b"\x00\xff" * 10, "x" * 2**20, b"y" * 2**20):
                socket.send(message)
                reply = socket.recv()
                said.append((type(reply).__name__, len(reply), reply == message))
            said.append(socket.ping().wait(5))
            socket.send("close")
            try:
                socket.recv()
            except websockets.exceptions.ConnectionClosed as closed:
                said.append((closed.rcvd.code, closed.rcvd.reason))
        return said

    for path in ("/ws", "/cached/ws"):
        one, other = talk(backend, path), talk(sidecar, path)
        say(one == other, f"{path}: text, binary, 1 MiB, ping, close", str(other[:3] + other[-1:]))

    def refused(port):
        try:
            connect(f"ws://127.0.0.1:{port}/ws-refused").close()
            return "accepted"
        except websockets.exceptions.InvalidStatus as error:
            return error.response.status_code, bytes(error.response.body)

    say(refused(backend) == refused(sidecar), "/ws-refused", str(refused(sidecar)))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def main():
    found = [os.path.join(ROOT, "target", kind, "sidecache") for kind in ("release", "debug")]
    binary = sys.argv[1] if len(sys.argv) > 1 else next((path for path in found if os.path.exists(path)), "sidecache")
    backend, sidecar = free_port(), free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "proxy.toml")
        with open(config, "w") as file:
            file.write(CONFIG)
        server = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", HERE, "--port", str(backend), "--no-server-header"]
        flags = ["--config", config, "--listen", f"127.0.0.1:{sidecar}", "--origin", f"http://127.0.0.1:{backend}", "--admin-listen", "off"]
        # What the proxy is told about the body's limit: 10 MiB are to be stored too.
        flags += ["--set", "cache.body_max=16MiB"]
        processes = [subprocess.Popen(server, **quiet), subprocess.Popen([binary, *flags], **quiet)]
        try:
            wait_for(backend)
            wait_for(sidecar)
            for chapter in (plain, methods, requests_as_seen, large, streaming, sockets):
                chapter(backend, sidecar)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(20)
    print(f"\n{compared} comparisons, {different} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
