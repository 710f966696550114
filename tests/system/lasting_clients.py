"""Clients of every kind that notice when a connection is lost, refused or mixed up, and their origins, on a Net of netns.py.

    203.0.113.0/24 ports 80, 8080: HTTP to 10.72.0.2:8080, and WebSocket at /chat to 10.72.0.2:9;  port 7: bytes to 10.72.0.2:7
"""
import base64
import hashlib
import os
import socket
import struct
import threading
import time

from harness import HANG
from netns import Thread


def serve_origins(net):
    net.nginx()
    serve_echo(net)
    serve_chat(net)


def serve_echo(net):
    def serve():
        listener = socket.create_server(("10.72.0.2", 7))
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def echo(connection):
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.close()

    Thread(net.origin, serve)


def accept_of(key):
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def ws_frame(opcode, payload, mask=b""):
    """RFC 6455 section 5.2, up to 125 bytes, whole."""
    if mask:
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes([0x80 | opcode, (0x80 if mask else 0) | len(payload)]) + mask + payload


def ws_read(stream):
    """(opcode, payload); nothing at the stream's end."""
    head = stream.read(2)
    if len(head) < 2:
        return None
    assert head[0] & 0x70 == 0 and head[0] & 0x80, head
    mask = stream.read(4) if head[1] & 0x80 else bytes(4)
    payload = stream.read(head[1] & 0x7f)
    return head[0] & 15, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def serve_chat(net):
    """A WebSocket origin that says back what it hears, close frames too."""
    def serve():
        listener = socket.create_server(("10.72.0.2", 9))
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=chat, args=(connection,), daemon=True).start()

    def chat(connection):
        with connection, connection.makefile("rb") as stream:
            key = b""
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                key = value.strip() if name.lower() == b"sec-websocket-key" else key
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               b"Sec-WebSocket-Accept: " + accept_of(key) + b"\r\n\r\n")
            while (frame := ws_read(stream)) is not None:
                connection.sendall(ws_frame(*frame))
                if frame[0] == 8:
                    return

    Thread(net.origin, serve)


class Load:
    """Clients that go on until told to stop; failures and totals by kind."""

    def __init__(self, net, *kinds):
        self.stop_asked = threading.Event()
        self.done, self.failures = {kind.__name__: 0 for kind in kinds}, []
        self.threads = [net.as_client(lambda kind=kind: self.drive(kind)) for kind in kinds]

    def drive(self, kind):
        name = kind.__name__
        while not self.stop_asked.is_set():
            try:
                for _ in kind(self.stop_asked):
                    self.done[name] += 1
            except (OSError, AssertionError) as error:
                self.failures.append(f"{name}: {error!r}")

    def stop(self):
        self.stop_asked.set()
        for thread in self.threads:
            thread.result()
        return self.done


def http1(stopped):
    """Requests on a kept connection; a new one after `Connection: close`, as RFC 9112 section 9.6 has it."""
    with socket.create_connection(("203.0.113.7", 80), HANG) as connection:
        connection.settimeout(HANG)
        stream = connection.makefile("rb")
        while not stopped.is_set():
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            status = stream.readline()
            if not status:
                # Closed while idle: what a client may repeat (section 9.3.1), but this proxy says so beforehand.
                raise AssertionError("closed without a word")
            assert status.startswith(b"HTTP/1.1 200"), status
            length, close = 0, False
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, value = line.lower().split(b":", 1)
                length = int(value) if name == b"content-length" else length
                close = close or (name == b"connection" and b"close" in value)
            assert len(stream.read(length)) == length
            yield
            if close:
                return


def new_connections(stopped, address=("203.0.113.9", 8080)):
    """A connection for each request: a refused SYN shows."""
    while not stopped.is_set():
        with socket.create_connection(address, HANG) as connection:
            connection.settimeout(HANG)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            text = b""
            while data := connection.recv(65536):
                text += data
            assert text.startswith(b"HTTP/1.1 200"), text[:80]
        yield


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def http2(stopped):
    """Streams on one connection; a new one after GOAWAY, whose last stream is the last that counts (RFC 9113 section 6.8).
    By hand: python3-h2 takes no answer after a GOAWAY."""
    with socket.create_connection(("203.0.113.8", 80), HANG) as connection:
        connection.settimeout(HANG)
        reader = connection.makefile("rb")
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        stream, last = -1, None
        while not stopped.is_set() and last is None:
            stream += 2
            # :method GET, :scheme http, :path / by index; :authority a.
            try:
                connection.sendall(frame(1, 5, stream, b"\x82\x86\x84\x01\x01a"))
            except (BrokenPipeError, ConnectionResetError):
                pass  # closed behind a GOAWAY that is still to be read
            answered = ended = False
            while not ended:
                head = reader.read(9)
                if len(head) < 9:
                    assert last is not None and stream > last, f"closed in stream {stream}, last {last}, answered {answered}"
                    return
                size, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
                payload = reader.read(size)
                if kind in (0, 1):
                    assert int.from_bytes(head[5:]) == stream
                    answered = answered or payload[0] == 0x88  # :status 200
                    ended = bool(flags & 1)
                elif kind == 3:
                    raise AssertionError(f"stream {stream} reset, code {int.from_bytes(payload)}, last {last}")
                elif kind == 4 and not flags & 1:
                    connection.sendall(frame(4, 1, 0))
                elif kind == 6 and not flags & 1:
                    connection.sendall(frame(6, 1, 0, payload))
                elif kind == 7:
                    last = int.from_bytes(payload[:4]) & 0x7fffffff
                    assert int.from_bytes(payload[4:8]) == 0, f"GOAWAY with code {int.from_bytes(payload[4:8])}"
                    if stream > last:
                        return
            assert answered
            connection.sendall(frame(8, 0, 0, struct.pack(">I", 65535 // 2)))
            yield


def layer4(stopped):
    """A connection that is held open, and one after it when the gateway's deadline has ended it."""
    with socket.create_connection(("203.0.113.7", 7), HANG) as connection:
        connection.settimeout(HANG)
        opened = time.monotonic()
        while not stopped.is_set() and time.monotonic() - opened < 3:
            message = struct.pack("<d", time.monotonic()) * 100
            connection.sendall(message)
            received = b""
            while len(received) < len(message):
                data = connection.recv(len(message) - len(received))
                assert data, "cut"
                received += data
            assert received == message
            yield


def websocket(stopped):
    """Messages that come back, in order, on a connection that is held over upgrades and closed as RFC 6455 section 7 has it."""
    with socket.create_connection(("203.0.113.7", 80), HANG) as connection, connection.makefile("rb") as stream:
        connection.settimeout(HANG)
        key = base64.b64encode(os.urandom(16))
        connection.sendall(b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n")
        assert stream.readline().startswith(b"HTTP/1.1 101"), "no upgrade"
        accepted = b""
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            accepted = value.strip() if name.lower() == b"sec-websocket-accept" else accepted
        assert accepted == accept_of(key)
        opened, number = time.monotonic(), 0
        while not stopped.is_set() and time.monotonic() - opened < 3:
            message = struct.pack("<QQ", number, id(stream))
            connection.sendall(ws_frame(2, message, os.urandom(4)))
            assert ws_read(stream) == (2, message), "cut, or another's"
            number += 1
            yield
        connection.sendall(ws_frame(8, struct.pack(">H", 1000), os.urandom(4)))
        assert ws_read(stream) == (8, struct.pack(">H", 1000)), "closed without a word"
