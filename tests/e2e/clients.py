"""Clients that do not behave: they leave in the middle, send slowly, read slowly."""
import json
import socket
import struct
import time

LEAVE = ('sending', 'sent', 'waiting', 'reading')


def head_of(length, headers=None):
    """The head of a chat request whose connection is used once."""
    lines = [f'{k}: {v}' for k, v in (headers or {}).items()]
    return '\r\n'.join(['POST /v1/chat/completions HTTP/1.1', 'Host: localhost', 'Connection: close',
                        'Content-Type: application/json', f'Content-Length: {length}', *lines, '',
                        '']).encode()


def leave(server, body, stage, rng, headers=None):
    """Begins a request and goes away at a stage, by closing or by a reset."""
    data = json.dumps(body).encode()
    with socket.create_connection((server.host, server.port), 60) as s:
        if rng.random() < 0.5:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        s.sendall(head_of(len(data), headers))
        if stage == 'sending':
            s.sendall(data[:rng.randrange(len(data))])
            return
        s.sendall(data)
        if stage == 'waiting':
            time.sleep(rng.uniform(0, 0.3))
        elif stage == 'reading':
            for _ in range(rng.randint(1, 6)):
                if not s.recv(512):
                    break


def send_slowly(connection, body, headers, pieces, seconds):
    """A chat request whose body takes that long; its response."""
    data = json.dumps(body).encode()
    connection.putrequest('POST', '/v1/chat/completions')
    for name, value in {'Content-Type': 'application/json', 'Content-Length': len(data),
                        **headers}.items():
        connection.putheader(name, str(value))
    connection.endheaders()
    size = len(data) // pieces + 1
    for at in range(0, len(data), size):
        connection.send(data[at:at + size])
        time.sleep(seconds / pieces)
    return connection.getresponse()


def read_slowly(response, size, pause):
    """The body, taken in small pieces."""
    data = b''
    while piece := response.read(size):
        data += piece
        time.sleep(pause)
    return data
