"""Pipes, limits and the last filter: what every process that runs tests goes through."""

import ctypes
import math
import os
import resource
import select
import signal
import sys
import time

# After each fork `random` would seed itself anew and `threading` look for threads, which together cost a
# third of the fork. Nothing here is forked with threads, and each test is given its seed.
_register, os.register_at_fork = os.register_at_fork, lambda **hooks: None
import random
import threading

os.register_at_fork = _register

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

    The runner ends the process when its CPU clock reaches `cpu_seconds`. The kernel's own limit, which
    counts in ticks and so may run ahead of that clock, stands behind it.

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
    seconds = math.ceil(cpu_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds + 1, seconds + 2))
    random.seed(0)
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
        data, stopped = self._read(lambda data: False)
        return self._end(stopped, data)

    def frame(self):
        """Reads one frame; returns ("frame", …), or how the process ended instead."""

        def complete(data):
            return len(data) >= _HEAD and len(data) >= _HEAD + _content(data)

        data, stopped = self._read(complete)
        if stopped == "complete":
            return ("frame", 0, self._charge(self._cpu()), bytes(data))
        return self._end(stopped, data)

    def is_silent(self):
        return not self.poll.poll(0)

    def kill(self):
        return self._end("killed", b"")

    def _read(self, complete):
        data = bytearray()
        began = time.monotonic()
        while not complete(data):
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
                return data, "end"
            data += piece
            if len(data) > self.limit:
                return data, "output"
        return data, "complete"

    def _pass_time(self, seconds):
        """Notes that time passed; returns which budget is used up, if one is."""
        self.waited += min(seconds, 2 * TICK)
        if self.waited - self.looked < TICK:
            return None
        self.looked = self.waited
        cpu = self._cpu()
        if cpu >= self.cpu_seconds:
            return "cpu"
        if self.waited - self.stretch * cpu >= self.wall_seconds:
            return "time"
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
        status = None
        if stopped == "end":
            # It closed the pipe; it may use the rest of its time to end.
            pause = 0.0001
            while stopped == "end":
                pid, status, usage = os.wait4(self.pid, os.WNOHANG)
                if pid != 0:
                    break
                status = None
                began = time.monotonic()
                time.sleep(pause)
                stopped = self._pass_time(time.monotonic() - began) or stopped
                pause = min(2 * pause, 0.02)
        if status is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            _, status, usage = os.wait4(self.pid, 0)
        os.close(self.output)
        cpu = usage.ru_utime + usage.ru_stime
        charge = self._charge(cpu)
        if stopped != "end":
            return (stopped, 0, charge, bytes(data[: self.limit]))
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            # Nobody else sends SIGXCPU. SIGKILL after so much CPU time is the kernel's hard limit, and
            # otherwise the kernel's way out when memory runs short.
            at_limit = number == signal.SIGKILL and cpu >= self.cpu_seconds / 2
            if number == signal.SIGXCPU or at_limit:
                return ("cpu", number, charge, bytes(data))
            return ("signal", number, charge, bytes(data))
        return ("exit", os.WEXITSTATUS(status), charge, bytes(data))


def _content(data):
    return int.from_bytes(data[_HEAD - 4 : _HEAD], "little")
