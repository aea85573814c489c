"""Which of two processes on one port the kernel gives new connections to.

A listener that closes resets what waits in it: connections not accepted yet, and handshakes whose last packet is on its way.
Between processes that share a port (SO_REUSEPORT) the kernel chooses by chance, or by a small program attached to any of their
sockets. The program used here names the new process's sockets only, so that the old one's are long empty when they close.

The kernel numbers the sockets of a port in the order in which they began to listen, and puts the last one in the place of one that
closes. Sockets of our own, as many as the old process has, come last and fill its places, so that the new one's keep their numbers.
Ours take no connections: they drop the first packet, and its sender repeats it a second later, when they are gone.

None of this needs a privilege, only the same user; connections stay with whom they are, whoever is killed.
"""

from __future__ import annotations

import ctypes
import ipaddress
import logging
import socket
import struct
import time
from collections import Counter
from contextlib import ExitStack

import psutil

from crossfade.envoy.stack import Address

_LOG = logging.getLogger(__name__)

# include/uapi/asm-generic/socket.h
_SO_ATTACH_FILTER = 26
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68

# include/uapi/linux/filter.h, bpf_common.h: what the two programs are made of
_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_A_RANDOM_NUMBER = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_MODULO = 0x94  # BPF_ALU | BPF_MOD | BPF_K
_ADD = 0x04  # BPF_ALU | BPF_ADD | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_RETURN_RESULT = 0x16  # BPF_RET | BPF_A

_LISTENING_S = 5.0
_POLL_S = 0.02

Instruction = tuple[int, int]
"""Operation and constant; ours never jump."""


class Steering:
    """New connections to `listen` go to process `to` from here on, none to `away_from`, until `end`.

    Where the kernel refuses, nothing is changed and the log has a warning: a connection opened in the instant in which the old
    listener closes may then be reset.
    """

    def __init__(self, listen: Address, *, away_from: int, to: int) -> None:
        self._listen, self._old = listen, away_from
        self._places, self._ended = ExitStack(), False
        try:
            self._begin(to)
        except (OSError, psutil.Error) as error:
            self.end()
            _LOG.warning("new connections to %s cannot be steered to process %d (%s); one in a thousand may be reset", listen, to, error)

    def end_if_done(self) -> None:
        """End it if the old process listens no more."""
        if not self._ended and not _listeners(self._listen)[self._old]:
            self.end()

    def end(self) -> None:
        """Let the kernel choose again; twice does no harm."""
        self._ended = True
        self._places.close()

    def _begin(self, to: int) -> None:
        deadline = time.monotonic() + _LISTENING_S
        while set(found := _listeners(self._listen)) != {self._old, to}:  # one may still be closing its own, of a handover before
            if time.monotonic() > deadline:
                raise OSError(f"processes {sorted(found)} listen there, not {self._old} and {to}")
            time.sleep(_POLL_S)
        program = [(_LOAD_WORD, _A_RANDOM_NUMBER), (_MODULO, found[to]), (_ADD, found[self._old]), (_RETURN_RESULT, 0)]
        first = self._places.enter_context(_deaf_listener(self._listen))
        _attach(first, _SO_ATTACH_REUSEPORT_CBPF, program)
        for _ in range(found[self._old] - 1):
            self._places.enter_context(_deaf_listener(self._listen))
        self._places.callback(first.setsockopt, socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)


def _deaf_listener(listen: Address) -> socket.socket:
    """A socket among those of the port that answers nobody."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    deaf = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            deaf.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as Envoy does; else it is no socket of theirs
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _attach(deaf, _SO_ATTACH_FILTER, [(_RETURN, 0)])
        deaf.bind((listen.host, listen.port))
        deaf.listen()
    except BaseException:
        deaf.close()
        raise
    return deaf


def _attach(to: socket.socket, option: int, program: list[Instruction]) -> None:
    """Hand the kernel a program: `struct sock_fprog`, an array of `struct sock_filter`."""
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", code, 0, 0, constant) for code, constant in program))
    to.setsockopt(socket.SOL_SOCKET, option, struct.pack("@HP", len(program), ctypes.addressof(instructions)))


def _listeners(listen: Address) -> Counter[int]:
    """How many sockets each process has that listen exactly there."""
    there = (str(ipaddress.ip_address(listen.host)), listen.port)
    found = (one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.laddr == there)
    return Counter(one.pid or 0 for one in found)
