"""A FastAPI application with one of everything that a proxy could get wrong."""

import asyncio
import hashlib
import os
import tempfile

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel

BIG = bytes(range(256)) * 4096 * 10  # 10 MiB
FILE = os.path.join(tempfile.mkdtemp(), "file.bin")
with open(FILE, "wb") as file:
    file.write(BIG[:100_000])
os.utime(FILE, (1_700_000_000, 1_700_000_000))

app = FastAPI()
app.add_middleware(GZipMiddleware, minimum_size=1000)
app.add_middleware(CORSMiddleware, allow_origins=["https://app.example"], allow_methods=["*"], allow_headers=["*"])
router = APIRouter()
streams_ended_by_client = 0


class Item(BaseModel):
    name: str
    price: float


@router.get("/items/{id}")
async def item(id: int, q: str | None = None):
    return {"id": id, "name": "Zażółć ☕", "q": q}


@router.post("/items", status_code=201)
async def create(item: Item, response: Response):
    response.headers["Location"] = "/items/7"
    return item


@router.put("/items/{id}")
@router.patch("/items/{id}")
async def change(id: int, item: Item):
    return {"id": id, **item.model_dump()}


@router.delete("/items/{id}", status_code=204)
async def delete(id: int):
    return None


@router.api_route("/echo", methods=["GET", "POST", "QUERY", "PROPFIND"])
async def echo(request: Request):
    """What arrived: method, target, the fields with repetitions and order, and the body's hash."""
    body = await request.body()
    fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw]
    target = request.scope["raw_path"].decode("latin-1"), request.scope["query_string"].decode("latin-1")
    return {
        "method": request.method,
        "target": target,
        "client": request.client.host,
        "scheme": request.url.scheme,
        "fields": fields,
        "body": [len(body), hashlib.sha256(body).hexdigest()],
    }


@router.get("/error/{status}")
async def error(status: int):
    raise HTTPException(status, detail=f"error {status}", headers={"X-Reason": "because", "WWW-Authenticate": 'Bearer realm="api"'})


@router.get("/crash")
async def crash():
    raise RuntimeError("a defect in the application")


@router.get("/redirect")
async def redirect():
    return RedirectResponse("/items/1?q=a%20b")


@router.get("/slash/")
async def slash():
    return {}


@router.get("/repeated")
async def repeated():
    response = JSONResponse({"repeated": True})
    for value in ("one=1; Path=/; HttpOnly", "two=2; Path=/", "one=3; Path=/x"):
        response.raw_headers.append((b"set-cookie", value.encode()))
    return response


@router.get("/fields")
async def fields():
    response = JSONResponse({"fields": True})
    extra = [("x-multi", "a"), ("x-multi", "b, c"), ("link", "</a>; rel=preload"), ("link", "</b>; rel=preload"), ("x-empty", "")]
    response.raw_headers += [(name.encode(), value.encode()) for name, value in extra]
    response.raw_headers.append((b"x-latin", b"caf\xe9"))
    response.raw_headers.append((b"x-long", b"x" * 8000))
    return response


@router.api_route("/text", methods=["GET", "HEAD"])
async def text():
    return Response("plain " * 1000, media_type="text/plain; charset=utf-8")


@router.get("/empty")
async def empty():
    return Response(b"", media_type="application/octet-stream")


@router.get("/big")
async def big():
    return Response(BIG, media_type="application/octet-stream", headers={"Content-Encoding": "identity"})


@router.get("/big-stream")
async def big_stream():
    async def pieces():
        for start in range(0, len(BIG), 50_000):
            yield BIG[start : start + 50_000]

    return StreamingResponse(pieces(), media_type="application/octet-stream", headers={"Content-Encoding": "identity"})


@router.get("/file")
async def of_file():
    return FileResponse(FILE, media_type="application/octet-stream", headers={"Content-Encoding": "identity"})


@router.get("/stream")
async def stream():
    async def pieces():
        for number in range(5):
            yield f"piece {number}\n".encode()
            await asyncio.sleep(0.1)

    return StreamingResponse(pieces(), media_type="text/plain", headers={"Content-Encoding": "identity"})


@router.get("/events")
async def events(request: Request, count: int = 5):
    async def pieces():
        global streams_ended_by_client
        try:
            for number in range(count):
                yield f"id: {number}\nevent: tick\ndata: {{\"n\": {number}}}\n\n".encode()
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            streams_ended_by_client += 1
            raise

    return StreamingResponse(pieces(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


@router.get("/streams-ended")
async def streams_ended():
    return {"ended": streams_ended_by_client}


@router.get("/broken")
async def broken():
    """Announces more than it sends."""

    async def pieces():
        yield b"the beginning"
        raise RuntimeError("a defect in the middle of a body")

    return StreamingResponse(pieces(), media_type="text/plain", headers={"Content-Encoding": "identity"})


@router.websocket("/ws")
async def ws(socket: WebSocket):
    offered = socket.scope["subprotocols"]
    await socket.accept(subprotocol=offered[0] if offered else None, headers=[(b"x-socket", b"yes")])
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") == "close":
                return await socket.close(4001, "as you wish")
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        pass


@router.websocket("/ws-refused")
async def ws_refused(socket: WebSocket):
    await socket.close(1008)


app.include_router(router)
app.include_router(router, prefix="/cached")
