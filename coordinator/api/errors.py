"""What can be wrong with a call before the engine sees it, and with the answer. `status` says how each is shown."""

from __future__ import annotations

from coordinator.core import limits


class Malformed(Exception):
    """The request's bytes are no message of its type."""


class InvalidPageToken(Exception):
    """The page token is not one that this list gave for this filter."""

    def __init__(self) -> None:
        super().__init__("page_token is not one that this list gave for this filter: ask without one to begin anew")


class TooLarge(Exception):
    """The answer does not fit into one message."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"the answer has {size_bytes} bytes, and a message at most {limits.MESSAGE_BYTES_MAX}: "
            "ask for smaller pages, or for PAYLOAD_VIEW_NONE"
        )


class Unsupported(Exception):
    """The RPC belongs to the contract, and this version of the coordinator does not serve it yet."""

    def __init__(self, method: str) -> None:
        super().__init__(f"{method} is not served by this version of the coordinator")
