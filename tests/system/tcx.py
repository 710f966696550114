"""Somebody else's program at an interface (bpf(2), linux/bpf.h): it lets every packet on to the next program, or drops it."""
import contextlib
import ctypes
import os
import socket
import struct

from netns import Thread

NEXT, DROP = -1, 2
BEFORE, AFTER = 1 << 3, 1 << 4  # BPF_F_BEFORE, BPF_F_AFTER: of all that are there
PROG_LOAD, LINK_CREATE = 5, 28
SCHED_CLS, TCX_INGRESS = 3, 46
SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
LIBC = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    fd = LIBC.syscall(SYS_BPF, command, ctypes.create_string_buffer(attributes, len(attributes)), len(attributes))
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}: {os.strerror(ctypes.get_errno())}")
    return fd


@contextlib.contextmanager
def program(namespace, interface, verdict, where):
    """Attached while the block runs."""
    code = struct.pack("<BBhi", 0xb7, 0, 0, verdict) + struct.pack("<BBhi", 0x95, 0, 0, 0)  # r0 = verdict; exit
    instructions, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    loaded = bpf(PROG_LOAD, struct.pack("<IIQQ", SCHED_CLS, 2, ctypes.addressof(instructions), ctypes.addressof(licence)))
    try:
        link = Thread(namespace, lambda: bpf(LINK_CREATE, struct.pack(
            "<IIIIIIQ", loaded, socket.if_nametoindex(interface), TCX_INGRESS, where, 0, 0, 0))).result()
    finally:
        os.close(loaded)  # the link holds it
    try:
        yield
    finally:
        os.close(link)
