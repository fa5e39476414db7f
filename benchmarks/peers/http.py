"""A small HTTP/1.1 client that keeps its connections: one caller at a time on each.

A library's would cost the driver more than the request is worth. This module must import nothing but the standard
library.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeAlias

_Connection: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HttpError(Exception):
    """The answer was none of success."""


class Http:
    """Posts JSON to HOST:PORT."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._idle: list[_Connection] = []

    async def post(self, path: str, body: object) -> Any:
        """The answer's JSON. Errors: `OSError`, `EOFError`, `HttpError`."""
        connection = self._idle.pop() if self._idle else await self._connect()
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._address}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n"
        )
        reader, writer = connection
        try:
            writer.write(head.encode() + content)
            status, answer = await _read(reader)
        except BaseException:
            writer.close()
            raise
        self._idle.append(connection)
        if not 200 <= status < 300:
            raise HttpError(f"{status}: {answer[:200]!r}")
        return json.loads(answer)

    async def _connect(self) -> _Connection:
        host, _, port = self._address.rpartition(":")
        return await asyncio.open_connection(host, int(port))


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
    status = int(lines[0].split()[1])
    if b"chunked" not in headers.get(b"transfer-encoding", b""):
        return status, await reader.readexactly(int(headers.get(b"content-length", b"0")))
    answer = b""
    while size := int(await reader.readline(), 16):
        answer += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return status, answer
