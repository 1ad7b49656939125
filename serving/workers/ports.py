"""Ports that several processes share: reserved by one that never listens, spread over those that do by the kernel."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import replace

from serving.settings import Settings

CANNOT_LISTEN = "cannot listen: %s; another server may use the port: give --http-port and --grpc-port"


def address(settings: Settings) -> str:
    """The host as it stands in a URL."""
    return f"[{settings.host}]" if ":" in settings.host else settings.host


def reserve(settings: Settings) -> tuple[ExitStack, Settings]:
    """Hold both ports until the stack is closed; the settings with the ports that were found for 0.

    Raises OSError where a port is taken.
    """
    with ExitStack() as held:
        http = held.enter_context(_reserved(settings.host, settings.http_port))
        rpc = held.enter_context(_reserved(settings.host, settings.grpc_port))
        found = replace(settings, http_port=http.getsockname()[1], grpc_port=rpc.getsockname()[1])
        return held.pop_all(), found


def listen(settings: Settings) -> socket.socket:
    """The HTTP port, listening; other workers may listen on it too. Raises OSError where it is taken."""
    listener = socket.create_server(
        (settings.host, settings.http_port),
        family=_family(settings.host),
        backlog=2048,
        reuse_port=settings.workers > 1,
    )
    # Inherited by accepted sockets: without it each answer waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _reserved(host: str, port: int) -> socket.socket:
    if port:
        # With SO_REUSEPORT alone, another server of this user would share its port instead of being in the way.
        socket.create_server((host, port), family=_family(host)).close()
    reserved = socket.socket(_family(host))
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((host, port))
    except OSError:
        reserved.close()
        raise
    return reserved


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
