"""Pipes, limits and the last filter: what every process that runs tests goes through."""

import ctypes
import os
import random
import resource
import select
import signal
import sys
import time

# Set by the helper: results go to 3, requests come from 4. A test process has the same numbers for
# its own pipes.
RESULTS = 3
REQUESTS = 4

_MAGIC = b"G2F1"
_HEAD = len(_MAGIC) + 5

_libc = ctypes.CDLL(None, use_errno=True)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_exactly(fd, count):
    """`count` bytes, or None at the end of the pipe."""
    pieces = []
    while count:
        piece = os.read(fd, min(count, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def read_message(fd):
    head = read_exactly(fd, 4)
    if head is None:
        return None
    return read_exactly(fd, int.from_bytes(head, "little"))


def write_message(fd, data):
    write_all(fd, len(data).to_bytes(4, "little") + data)


def write_frame(kind, data=b""):
    """One frame of a test process: magic, kind, length, content."""
    write_all(RESULTS, _MAGIC + kind + len(data).to_bytes(4, "little") + data)


def confine(pipes, parent, cpu_seconds, filters):
    """Turns a fresh fork into a test process: its descriptors, its limits, and no way back.

    `pipes` says which descriptor gets which number. In the parent 0 and 1 are /dev/null and 3 and 4
    are its own pipes, so no descriptor here has a number that is given out.
    """
    os.dup2(0, 2)
    for fd, number in pipes.items():
        os.dup2(fd, number)
    os.closerange(REQUESTS + (REQUESTS in pipes.values()), 1024)
    if RESULTS not in pipes.values():
        os.close(RESULTS)
    die_with(parent)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    random.seed(0)
    if filters:
        _prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
    for program in filters:
        _install(program)


def die_with(parent):
    """Ends this process when `parent`, which forked it, ends."""
    _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(99)


class _Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def _install(instructions):
    memory = ctypes.create_string_buffer(instructions, len(instructions))
    program = _Program(len(instructions) // 8, ctypes.addressof(memory))
    _prctl(22, 2, ctypes.addressof(program))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def _prctl(option, first, second=0):
    unsigned = ctypes.c_ulong
    code = _libc.prctl(option, unsigned(first), unsigned(second), unsigned(0), unsigned(0))
    if code != 0:
        raise OSError(ctypes.get_errno(), "prctl %d" % option)


class Watched:
    """A test process seen from its parent: collects what it writes, and ends it in time."""

    def __init__(self, pid, output, deadline, cpu_seconds, limit):
        self.pid = pid
        self.output = output
        self.deadline = deadline
        self.cpu_seconds = cpu_seconds
        self.limit = limit
        self.poll = select.poll()
        self.poll.register(output, select.POLLIN)

    def everything(self):
        """Reads to the end; returns how the process ended and what it wrote."""
        data, stopped = self._read(lambda data: False)
        return self._end(stopped, data)

    def frame(self):
        """Reads one frame; returns ("frame", …), or how the process ended instead."""

        def complete(data):
            return len(data) >= _HEAD and len(data) >= _HEAD + _content(data)

        data, stopped = self._read(complete)
        if stopped == "complete":
            return ("frame", 0, 0, bytes(data))
        return self._end(stopped, data)

    def is_silent(self):
        return not self.poll.poll(0)

    def kill(self):
        return self._end("killed", b"")

    def _read(self, complete):
        data = bytearray()
        while not complete(data):
            left = self.deadline - time.monotonic()
            if left <= 0:
                return data, "time"
            if not self.poll.poll(left * 1000 + 1):
                continue
            piece = os.read(self.output, 1 << 16)
            if not piece:
                return data, "end"
            data += piece
            if len(data) > self.limit:
                return data, "output"
        return data, "complete"

    def _end(self, stopped, data):
        status = None
        if stopped == "end":
            # It closed the pipe; it may use the rest of its time to end.
            pause = 0.0001
            while status is None and time.monotonic() < self.deadline:
                pid, status, usage = os.wait4(self.pid, os.WNOHANG)
                if pid == 0:
                    status = None
                    time.sleep(pause)
                    pause = min(2 * pause, 0.02)
            if status is None:
                stopped = "time"
        if status is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            _, status, usage = os.wait4(self.pid, 0)
        os.close(self.output)
        cpu = usage.ru_utime + usage.ru_stime
        cpu_ms = int(1000 * cpu)
        if stopped in ("time", "output", "killed"):
            return (stopped, 0, cpu_ms, bytes(data[: self.limit]))
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            # The kernel kills at the limit, and counts in ticks.
            if number in (signal.SIGKILL, signal.SIGXCPU) and cpu >= self.cpu_seconds - 0.1:
                return ("cpu", number, cpu_ms, bytes(data))
            return ("signal", number, cpu_ms, bytes(data))
        return ("exit", os.WEXITSTATUS(status), cpu_ms, bytes(data))


def _content(data):
    return int.from_bytes(data[_HEAD - 4 : _HEAD], "little")
