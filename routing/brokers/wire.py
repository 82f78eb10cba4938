"""How a parcel looks on an AMQP connection, and a connection that moves many of them for little processor time.

pika is complete and slow: it makes an object for every frame and a system call for every frame sent. `WireConnection`
overrides two of its inner methods, for the three things that happen per parcel (publish, deliver, confirm), and leaves
all the rest to pika. pyproject.toml bounds pika's version for this reason; tests/brokers hold the behaviour.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from pika.adapters.asyncio_connection import AsyncioConnection
from pika.frame import decode_frame
from pika.spec import BasicProperties

from routing.brokers.contract import Parcel

BODY = 32
"""Bytes of a parcel's body: delivery id and message id, 16 bytes each."""
KEPT_HEADERS = ("traceparent",)
"""Headers of a parcel that travel; others stay behind, so that no personal data can reach a queue by accident."""
PUBLISHED_AT = "published-at"
RETRIED = "x-hub-retried"
NOT_BEFORE = "x-hub-not-before"
REASON = "x-hub-reason"

_FRAME = struct.Struct(">BHI")
_METHOD = struct.Struct(">BHII")
_TAG = struct.Struct(">QB")
_CONTENT = struct.Struct(">BHIHHQ")
_HEADER = struct.Struct(">BHIHHQHI")
_ACK = struct.Struct(">BHIIQBB")
_DELIVER, _ACKED = 0x003C003C, 0x003C0050
_END = b"\xce"
_PERSISTENT = b"\x02\xce"
_FLAGS = 0x3000  # headers and delivery mode, nothing else

Deliver = Callable[[int, bool, bytes, bytes], None]
"""Called with delivery tag, redelivered flag, encoded properties and body."""
Confirmed = Callable[[int, bool], None]
"""Called with a delivery tag and whether all tags up to it are meant."""


def encode_body(parcel: Parcel) -> bytes:
    """Return the body of a parcel: its two ids."""
    return parcel.delivery_id.bytes + parcel.message_id.bytes


def decode_ids(body: bytes) -> tuple[UUID, UUID]:
    """Return delivery id and message id; raises ValueError when the body is not a parcel's."""
    if len(body) != BODY:
        raise ValueError(f"a parcel has {BODY} bytes, not {len(body)}")
    return UUID(bytes=body[:16]), UUID(bytes=body[16:])


def encode_headers(
    headers: Mapping[str, str], published_ms: int, extra: Mapping[str, str | int] | None = None
) -> bytes:
    """Return an AMQP field table of the headers that may travel."""
    table = b"\x0cpublished-atl" + published_ms.to_bytes(8, "big")
    for name in KEPT_HEADERS:
        if (text := headers.get(name)) is not None:
            value = text.encode()
            table += b"%c%bS%b%b" % (len(name), name.encode(), len(value).to_bytes(4, "big"), value)
    for name, item in (extra or {}).items():
        key = b"%c%b" % (len(name), name.encode())
        if isinstance(item, int):
            table += key + b"l" + item.to_bytes(8, "big", signed=True)
        else:
            value = item.encode()[:250]
            table += key + b"S" + len(value).to_bytes(4, "big") + value
    return table


def decode_headers(properties: bytes) -> dict[str, Any]:
    """Return the headers of encoded properties; raises ValueError when they cannot be read."""
    try:
        return dict(BasicProperties().decode(properties).headers or {})
    except Exception as error:  # pika raises whatever its decoder stumbles over
        raise ValueError(f"the properties cannot be read ({type(error).__name__})") from error


def publish_method(channel: int, exchange: str, routing_key: str) -> bytes:
    """Return the method frame that publishes with the mandatory flag; the same for every parcel of a route."""
    names = b"".join(b"%c%b" % (len(text.encode()), text.encode()) for text in (exchange, routing_key))
    payload = b"\x00\x3c\x00\x28\x00\x00" + names + b"\x01"
    return _FRAME.pack(1, channel, len(payload)) + payload + _END


def publish_content(channel: int, table: bytes, body: bytes) -> bytes:
    """Return header and body frame of a persistent parcel."""
    size = len(table)
    return b"".join(
        (
            _HEADER.pack(2, channel, 12 + 2 + 4 + size + 1, 60, 0, len(body), _FLAGS, size),
            table,
            _PERSISTENT,
            _FRAME.pack(3, channel, len(body)),
            body,
            _END,
        )
    )


def ack_frame(channel: int, tag: int, multiple: bool) -> bytes:
    """Return the frame that acknowledges one delivery, or all up to it."""
    return _ACK.pack(1, channel, 13, _ACKED, tag, multiple, 0xCE)


class WireConnection(AsyncioConnection):  # type: ignore[misc]  # pika's base has no types
    """A pika connection with a short way for parcels and their confirms; one write per turn of the loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.deliveries: dict[int, Deliver] = {}
        self.confirms: dict[int, Confirmed] = {}
        self._waiting: list[bytes] = []
        super().__init__(*args, **kwargs)

    def write(self, frame: bytes) -> None:
        """Send encoded frames with all else that is sent in this turn of the loop."""
        if not self._waiting:
            self.ioloop.call_soon(self._flush)
        self._waiting.append(frame)

    def abort(self) -> None:
        """End the connection without asking the other side."""
        if self._transport is not None:
            self._transport.abort()

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        for frame in marshaled_frames:
            self.write(frame)
        self.frames_sent += len(marshaled_frames)

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        if self._transport is not None:
            self.bytes_sent += len(data)
            self._adapter_emit_data(data)

    def _on_data_available(self, data_in: bytes) -> None:
        rest: bytes = self._frame_buffer  # type: ignore[has-type]
        data = rest + data_in if rest else data_in
        self._frame_buffer = b""
        at = 0
        try:
            while (used := self._take(data, at)) > 0:
                self.bytes_received += used
                at += used
        finally:
            # A callback may have closed the connection; pika has then emptied the buffer for good.
            if at < len(data) and not self.is_closed:
                self._frame_buffer = data[at:]

    def _take(self, data: bytes, at: int) -> int:
        """Handle what begins at `at`; return the bytes used, 0 when more must come first."""
        left = len(data) - at
        if left < 8:
            return 0
        if data[at] == 65:  # "AMQP": the server refuses our protocol version
            return self._leave_to_pika(data[at : at + 8])
        if left < 11 and data[at] != 8:
            return 0
        kind, channel, size = _FRAME.unpack_from(data, at)
        whole: int = size + 8
        if left < whole:
            return 0
        if kind == 1:
            method = int.from_bytes(data[at + 7 : at + 11], "big")
            if method == _ACKED and (confirmed := self.confirms.get(channel)) is not None:
                tag, multiple = _TAG.unpack_from(data, at + 11)
                confirmed(tag, bool(multiple))
                return whole
            if method == _DELIVER and (deliver := self.deliveries.get(channel)) is not None:
                if left < whole + 22:
                    return 0
                return self._take_delivery(data, at, whole, channel, deliver)
        return self._leave_to_pika(data[at : at + whole])

    def _take_delivery(self, data: bytes, start: int, whole: int, channel: int, deliver: Deliver) -> int:
        """Handle deliver, header and body frame in one go when all three are here."""
        left = len(data) - start
        head = start + whole
        kind, head_channel, size, _, _, body_size = _CONTENT.unpack_from(data, head)
        if kind != 2 or head_channel != channel or body_size != BODY:
            return self._leave_to_pika(data[start:head])
        total: int = whole + size + 8 + BODY + 8
        if left < total:
            return 0
        body_at = head + size + 8
        if data[body_at] != 3 or data[start + total - 1] != 0xCE:
            return self._leave_to_pika(data[start:head])
        tag, redelivered = _TAG.unpack_from(data, start + 12 + data[start + 11])
        deliver(tag, bool(redelivered), data[head + 19 : body_at - 1], data[body_at + 7 : body_at + 7 + BODY])
        return total

    def _leave_to_pika(self, frame: bytes) -> int:
        used: int
        used, value = decode_frame(frame)
        if value is not None:
            self._process_frame(value)
        return used
