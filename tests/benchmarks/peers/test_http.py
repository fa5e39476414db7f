import asyncio
from collections.abc import AsyncIterator

import pytest

from benchmarks.peers.http import Http, HttpError

ANSWERS = {
    "/plain": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue",
    "/chunked": b'HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"a"\r\n3\r\n:1}\r\n0\r\n\r\n',
    "/broken": b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\nno",
}


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split()[1].decode()
                size = int(head.lower().partition(b"content-length:")[2].split()[0])
                assert (await reader.readexactly(size)).startswith(b"{")
                writer.write(ANSWERS[path])
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


async def test_answers_are_read_to_their_end_so_that_the_connection_can_be_used_again(address: str) -> None:
    http = Http(address)
    for _ in range(2):
        assert await http.post("/plain", {}) is True
        assert await http.post("/chunked", {}) == {"a": 1}
        with pytest.raises(HttpError, match="500"):
            await http.post("/broken", {})
    [(_, writer)] = http._idle
    writer.close()
    await writer.wait_closed()
