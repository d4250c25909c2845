"""Pipes, limits and the last filter: what every process that runs tests goes through."""

import ctypes
import os
import resource
import select
import signal
import sys
import time

# After each fork `random` would seed itself anew and `threading` look for threads, which together cost a
# third of the fork. Nothing here is forked with threads, and each test starts with the zygote's seed.
_register, os.register_at_fork = os.register_at_fork, lambda **hooks: None
import random
import threading

os.register_at_fork = _register

# Set by the helper: results go to 3, requests come from 4. A test process has the same numbers for
# its own pipes.
RESULTS = 3
REQUESTS = 4
# A test of one call or of a program has no requests. Here the first of a completion leaves the compiled code.
COMPILED = REQUESTS

_MAGIC = b"G2F1"
_HEAD = len(_MAGIC) + 5

_prctl = ctypes.CDLL(None).prctl
_prctl.argtypes = [ctypes.c_int] + 4 * [ctypes.c_ulong]


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


def confine(places, parent, cpu_limit, filter):
    """Turns a fresh fork into a test process: its descriptors, its limits, and no way back.

    The runner ends the process when its CPU clock reaches its budget. The kernel's own limit `cpu_limit`,
    which counts in ticks and so may run ahead of that clock, stands behind it.

    `places` says which descriptor becomes which number; None is closed, and standard error goes nowhere. In the
    parent 0 and 1 are /dev/null and 3 and 4 are its own pipes, so what is given a place never has the number of
    another.
    """
    # First, as 0 may become something else.
    os.dup2(0, 2)
    for number, fd in places.items():
        if fd is None:
            os.close(number)
        elif fd != number:
            os.dup2(fd, number)
    os.closerange(REQUESTS + 1, 1024)
    die_with(parent)
    resource.setrlimit(resource.RLIMIT_CPU, cpu_limit)
    if filter is not None and _prctl(22, 2, filter.address, 0, 0) != 0:
        raise OSError("PR_SET_SECCOMP")  # with SECCOMP_MODE_FILTER


def die_with(parent):
    """Ends this process when `parent`, which forked it, ends."""
    if _prctl(1, 9, 0, 0, 0) != 0:  # PR_SET_PDEATHSIG, SIGKILL
        raise OSError("PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        os._exit(99)


class Filter(ctypes.Structure):
    """A seccomp program, ready to be installed."""

    _fields_ = [("count", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]

    def __init__(self, instructions):
        self.memory = ctypes.create_string_buffer(instructions, len(instructions))
        super().__init__(len(instructions) // 8, ctypes.addressof(self.memory))
        self.address = ctypes.addressof(self)


# How often the clocks of a running test are looked at, in seconds.
TICK = 0.05


class Watched:
    """A test process seen from its parent: collects what it writes, and ends it in time.

    Two budgets. `cpu_seconds` is for the process's own CPU clock. `wall_seconds` is for the time that it
    spends idle: the time waited for it less `stretch` times its CPU time, in ticks, of which one that
    came late counts as two. So a test that has to wait for a core on a loaded machine, or through a
    pause of all of it, is not taken for one that sleeps.
    """

    def __init__(self, pid, output, cpu_seconds, wall_seconds, stretch, limit):
        self.pid = pid
        self.output = output
        self.cpu_seconds = cpu_seconds
        self.wall_seconds = wall_seconds
        self.stretch = stretch
        self.limit = limit
        self.waited = 0.0
        self.looked = 0.0
        self.charged = 0.0
        self.poll = select.poll()
        self.poll.register(output, select.POLLIN)

    def everything(self):
        """Reads to the end; returns how the process ended and what it wrote."""
        data, stopped = self._read(None)
        return self._end(stopped, data)

    def frame(self):
        """Reads one frame; returns (b"frame", …), or how the process ended instead."""

        def complete(data):
            return len(data) >= _HEAD and len(data) >= _HEAD + _content(data)

        data, stopped = self._read(complete)
        if stopped == b"complete":
            return (b"frame", 0, self._charge(self._cpu()), bytes(data))
        return self._end(stopped, data)

    def is_silent(self):
        return not self.poll.poll(0)

    def kill(self):
        return self._end(b"killed", b"")

    def _read(self, complete):
        data = bytearray()
        began = time.monotonic()
        while complete is None or not complete(data):
            is_ready = self.poll.poll(1000 * TICK)
            now = time.monotonic()
            stopped = self._pass_time(now - began)
            began = now
            if stopped:
                return data, stopped
            if not is_ready:
                continue
            piece = os.read(self.output, 1 << 16)
            if not piece:
                return data, b"end"
            data += piece
            if len(data) > self.limit:
                return data, b"output"
        return data, b"complete"

    def _pass_time(self, seconds):
        """Notes that time passed; returns which budget is used up, if one is."""
        self.waited += min(seconds, 2 * TICK)
        if self.waited - self.looked < TICK:
            return None
        self.looked = self.waited
        cpu = self._cpu()
        if cpu >= self.cpu_seconds:
            return b"cpu"
        if self.waited - self.stretch * cpu >= self.wall_seconds:
            return b"time"
        return None

    def _cpu(self):
        """Seconds on the process's CPU clock, whose number is that of clock_getcpuclockid(3)."""
        try:
            return time.clock_gettime((~self.pid << 3) | 2)
        except OSError:
            return 0.0

    def _charge(self, cpu):
        """Milliseconds since the last report that the process itself is the reason for: CPU or idle."""
        total = max(cpu, self.waited - self.stretch * cpu)
        charge = max(total - self.charged, 0.0)
        self.charged = total
        return int(1000 * charge)

    def _end(self, stopped, data):
        pid = 0
        if stopped == b"end":
            # It closed the pipe; it may use the rest of its time to end.
            pause = 0.0001
            while stopped == b"end":
                cpu = self._cpu()
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid != 0:
                    break
                began = time.monotonic()
                time.sleep(pause)
                stopped = self._pass_time(time.monotonic() - began) or stopped
                pause = min(2 * pause, 0.02)
        if pid == 0:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            cpu = self._cpu()
            _, status = os.waitpid(self.pid, 0)
        os.close(self.output)
        charge = self._charge(cpu)
        if stopped != b"end":
            return (stopped, 0, charge, bytes(data[: self.limit]))
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            # Nobody else sends SIGXCPU. SIGKILL after so much CPU time is the kernel's hard limit, and
            # otherwise the kernel's way out when memory runs short.
            at_limit = number == signal.SIGKILL and cpu >= self.cpu_seconds / 2
            if number == signal.SIGXCPU or at_limit:
                return (b"cpu", number, charge, bytes(data))
            return (b"signal", number, charge, bytes(data))
        return (b"exit", os.WEXITSTATUS(status), charge, bytes(data))


def _content(data):
    return int.from_bytes(data[_HEAD - 4 : _HEAD], "little")
