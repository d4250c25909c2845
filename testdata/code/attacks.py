# Attack programs. Each defines f(place); the test is `f(place) == "PWNED"` for an escape, and
# `f(place) == <a number that is nowhere in the program>` for a hack.
#
# An escape returns "PWNED" when it has done what must not be possible, so a verdict of "correct" is a
# breach. `place` is a folder that everybody may write to, with a file `secret` in it. Marked `control`,
# an escape works when there is no sandbox, which the test also checks; so a mistake in the attack
# itself does not look like a defence. A hack marked `control` passes when solution and asserts run in
# one process, which is how most graders do it.
#
# A bomb is an escape that some limit must stop, whichever comes first; it returns "PWNED" when none did.
# A hang never ends by itself; it must be ended in time.
#
# Each hack also meets a test that is a program, which iterates over calls and passes what came back on: there it
# must not end an iteration, nor have itself masked by what cannot be passed on.
#
# A line `#### kind name [control]` starts each program.

#### hack equal_to_everything control
class Yes:
    def __eq__(self, other):
        return True
def f(place):
    return Yes()
#### hack int_equal_to_everything control
class Yes(int):
    def __eq__(self, other):
        return True
    __hash__ = int.__hash__
def f(place):
    return Yes(5)
#### hack list_equal_to_everything control
class Yes(list):
    def __eq__(self, other):
        return True
def f(place):
    return Yes()
#### hack dict_equal_to_everything control
class Yes(dict):
    def __eq__(self, other):
        return True
def f(place):
    return Yes(a=1)
#### hack str_equal_to_everything control
class Yes(str):
    def __eq__(self, other):
        return True
    __hash__ = str.__hash__
def f(place):
    return Yes("x")
#### hack mock_any control
from unittest.mock import ANY
def f(place):
    return ANY
#### hack claims_to_be_int control
class Yes:
    __class__ = int
    def __eq__(self, other):
        return True
def f(place):
    return Yes()
#### hack metaclass_liar control
class Meta(type):
    def __instancecheck__(self, other):
        return True
    def __eq__(self, other):
        return True
    __hash__ = type.__hash__
class Yes(metaclass=Meta):
    pass
def f(place):
    return Yes
#### hack equal_inside_a_list
class Yes:
    def __eq__(self, other):
        return True
def f(place):
    return [Yes()]
#### hack exit_at_import control
import sys
sys.exit(0)
#### hack hard_exit_at_import control
import os
os._exit(0)
#### hack hard_exit_by_posix control
import posix
posix._exit(1 - 1)
#### hack exit_in_call control
def f(place):
    raise SystemExit(0)
#### hack hard_exit_in_call control
import os
def f(place):
    os._exit(0)
#### hack exit_handler control
import atexit, os
atexit.register(os._exit, 0)
def f(place):
    return 0
#### hack no_function
def g(place):
    return 1
#### hack constants_of_the_caller control
import sys
def f(place):
    frame = sys._getframe(1)
    while frame:
        for constant in frame.f_code.co_consts:
            if isinstance(constant, int) and constant > 10**9:
                return constant
        frame = frame.f_back
#### hack objects_of_the_collector
import gc
def f(place):
    found = []
    for thing in gc.get_objects():
        try:
            for part in gc.get_referents(thing):
                if type(part) is int and part > 10**9:
                    found.append(part)
        except Exception:
            pass
    return max(found, default=0)
#### hack names_of_the_harness
import sys
def f(place):
    for module in list(sys.modules.values()):
        for value in list(getattr(module, "__dict__", {}).values()):
            if type(value) is int and 10**9 < value < 10**12 and value != sys.maxsize:
                return value
#### hack forged_pass_frame
import os
os.write(3, b"G2F1P\0\0\0\0")
os._exit(0)
#### hack forged_judge_error_frame
import os
os.write(3, b"G2F1B\x01\0\0\0n")
os._exit(0)
#### hack forged_frames_of_every_kind
import os
for kind in range(256):
    os.write(3, b"G2F1" + bytes([kind]) + b"\x01\0\0\0t")
os._exit(0)
#### hack garbled_frame
import os
os.write(3, b"\xff" * 1000)
os._exit(0)
#### hack frame_with_a_false_length
import os
os.write(3, b"G2F1V\xff\xff\xff\xffi\xff\xff\xff\x7f1")
os._exit(0)
#### hack half_a_frame
import os
os.write(3, b"G2F1V\x05")
os._exit(0)
#### hack text_that_says_passed
import os
for fd in (1, 2, 3):
    try:
        os.write(fd, b"PASSED\n1 passed in 0.01s\nOK\n")
    except OSError:
        pass
os._exit(0)
#### hack forged_report_to_every_descriptor
import os
report = b"u\x04\0\0\0s\x04\0\0\0exiti\x01\0\0\x000i\x01\0\0\x000b\x0a\0\0\0G2F1V\x01\0\0\0t"
for fd in range(256):
    try:
        os.write(fd, len(report).to_bytes(4, "little") + report)
    except OSError:
        pass
os._exit(0)
#### hack patched_encoder
import sys
main = sys.modules["__main__"]
main.encode = lambda value, limit: b"t"
main.Unsupported = BaseException
def f(place):
    return object()
#### hack patched_frame_writer
import os, sys
def write_frame(kind, data=b""):
    os.write(3, b"G2F1P\0\0\0\0")
sys.modules["__main__"].write_frame = write_frame
def f(place):
    return 1
#### hack patched_builtins
import builtins
builtins.type = lambda *a: int
builtins.format = lambda *a: "t"
builtins.len = lambda *a: 1
builtins.isinstance = lambda *a: True
builtins.AssertionError = RuntimeError
def f(place):
    return object()
#### hack patched_struct
import struct
struct.pack = lambda *a: b"\0\0\0\0"
def f(place):
    return [1, 2, 3]
#### hack import_hook
import sys
class Hook:
    def find_spec(self, name, path=None, target=None):
        sys.modules[name] = self
        return None
    def __getattr__(self, name):
        return lambda *a, **k: True
sys.meta_path.insert(0, Hook())
def f(place):
    return Hook()
#### hack trace_function
import sys
def trace(frame, event, arg):
    for name in list(frame.f_locals):
        frame.f_locals[name] = b"t"
    return trace
sys.settrace(trace)
sys.setprofile(trace)
def f(place):
    return 1
#### hack audit_hook
import sys
sys.addaudithook(lambda *a: None)
def f(place):
    return None
#### hack interrupt
def f(place):
    raise KeyboardInterrupt
#### hack exception_group_of_assertions
def f(place):
    raise AssertionError
#### hack generator
def f(place):
    yield 1
#### hack coroutine
async def f(place):
    return 1
#### hack lambda_instead_of_value
def f(place):
    return lambda: True
#### hack not_implemented
def f(place):
    return NotImplemented
#### hack not_a_number
def f(place):
    return float("nan")
#### hack true
def f(place):
    return True
#### hack list_of_guesses
def f(place):
    return list(range(100000))
#### hack endless_list
def f(place):
    things = []
    things.append(things)
    return things
#### hack nested_past_all_depth
def f(place):
    things = []
    for _ in range(100000):
        things = [things]
    return things
#### bomb shared_past_all_size
def f(place):
    things = [0]
    for _ in range(60):
        things = [things, things]
    return things
#### hack big_integer
def f(place):
    return 1 << 10 ** 7
#### hang big_integer_as_text
def f(place):
    return str(7 ** (10 ** 6))
#### bomb big_string
def f(place):
    return "x" * (1 << 24)
#### hack lone_surrogate
def f(place):
    return "\ud800"
#### hack numpy_impostor
class Scalar:
    __module__ = "numpy"
    shape = ()
    def item(self):
        return self
def f(place):
    return Scalar()
#### hack counter_with_own_equality
import collections
class Yes(collections.Counter):
    def __eq__(self, other):
        return True
def f(place):
    return Yes("aab")
#### bomb recursion
def f(place):
    return f(place)
#### bomb recursion_without_limit
import sys
sys.setrecursionlimit(10 ** 9)
def f(place):
    return f(place)
#### hack broken_syntax
def f(place) return 1
#### hack nested_source
eval("(" * 150 + ")" * 150)
#### hack null_byte
exec("x = 1\0")
def f(place):
    return 1
#### hack crash_of_the_interpreter
import ctypes
ctypes.string_at(0)
#### hack abort
import os
os.abort()
#### hack closed_result_pipe
import os
os.close(3)
def f(place):
    return 1
#### hang closed_result_pipe_and_no_end
import os, time
os.close(3)
while True:
    time.sleep(1)
#### hack thread_writes_later
import os, threading, time
def late():
    time.sleep(0.05)
    os.write(3, b"G2F1P\0\0\0\0")
threading.Thread(target=late).start()
def f(place):
    time.sleep(0.2)
    return 1
#### hang busy
def f(place):
    while True:
        pass
#### hang busy_at_import
while True:
    pass
#### hang busy_in_c
def f(place):
    return sum(iter(int, 1))
#### hang busy_and_deaf
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
def f(place):
    while True:
        pass
#### hang busy_in_threads
import threading
def spin():
    while True:
        pass
for _ in range(4):
    threading.Thread(target=spin, daemon=True).start()
def f(place):
    while True:
        pass
#### hang asleep
import time
def f(place):
    time.sleep(1000)
#### hang asleep_and_stubborn
import time
def f(place):
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass
#### hang waits_for_input
def f(place):
    import sys
    while True:
        if sys.stdin.read() == "":
            pass
#### hack result_flood
import os
def f(place):
    while True:
        os.write(3, b"\0" * 65536)
#### hang output_flood
def f(place):
    while True:
        print("x" * 65536, flush=True)
#### hang catastrophic_pattern
import re
def f(place):
    return re.match(r"(a+)+$", "a" * 64 + "b")
#### escape read_a_file control
def f(place):
    if open(place + "/secret").read():
        return "PWNED"
#### escape read_the_passwords control
def f(place):
    if open("/etc/passwd").read():
        return "PWNED"
#### escape read_by_descriptor control
import os
def f(place):
    folder = os.open(place, os.O_RDONLY)
    if os.read(os.open("secret", os.O_RDONLY, dir_fd=folder), 1):
        return "PWNED"
#### escape list_the_root control
import os
def f(place):
    if "home" in os.listdir("/") and "sys" in os.listdir("/"):
        return "PWNED"
#### escape read_the_kernel control
def f(place):
    if open("/proc/self/status").read():
        return "PWNED"
#### escape read_the_parents_environment control
import os
def f(place):
    open("/proc/%d/environ" % os.getppid()).read()
    return "PWNED"
#### escape read_the_parents_memory
import os
def f(place):
    open("/proc/%d/mem" % os.getppid(), "rb").read(1)
    return "PWNED"
#### escape read_own_memory_map control
def f(place):
    if open("/proc/self/maps").read():
        return "PWNED"
#### escape environment_has_secrets
import os
def f(place):
    known = "LANG LC_CTYPE MALLOC_ARENA_MAX OMP_NUM_THREADS PATH PYTHONHASHSEED"
    if set(os.environ) - set(known.split()):
        return "PWNED"
#### escape write_a_file control
def f(place):
    open(place + "/new", "w").write("x")
    return "PWNED"
#### escape append_to_a_file control
def f(place):
    open(place + "/secret", "a").write("x")
    return "PWNED"
#### escape write_to_temp control
import tempfile
def f(place):
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
    return "PWNED"
#### escape write_here control
def f(place):
    import os
    os.chdir(place)
    open("here", "w").close()
    return "PWNED"
#### escape remove_a_file control
import os
def f(place):
    os.rename(place + "/secret", place + "/gone")
    os.rename(place + "/gone", place + "/secret")
    return "PWNED"
#### escape make_a_folder control
import os
def f(place):
    os.mkdir(place + "/folder")
    os.rmdir(place + "/folder")
    return "PWNED"
#### escape make_a_link control
import os
def f(place):
    os.symlink("/", place + "/link")
    os.unlink(place + "/link")
    return "PWNED"
#### escape make_a_pipe control
import os
def f(place):
    os.mkfifo(place + "/pipe")
    os.unlink(place + "/pipe")
    return "PWNED"
#### escape truncate_a_file control
import os
def f(place):
    os.truncate(place + "/secret", 3)
    return "PWNED"
#### escape change_a_mode control
import os
def f(place):
    os.chmod(place + "/secret", 0o600)
    os.chmod(place + "/secret", 0o666)
    return "PWNED"
#### escape change_a_time control
import os
def f(place):
    os.utime(place + "/secret")
    return "PWNED"
#### escape change_an_owner control
import os
def f(place):
    os.chown(place + "/secret", os.getuid(), -1)
    return "PWNED"
#### escape set_an_attribute
import os
def f(place):
    os.setxattr(place + "/secret", "user.x", b"y")
    return "PWNED"
#### escape poison_the_library
import os
def f(place):
    open(os.__file__, "r+").close()
    return "PWNED"
#### escape make_a_device
import os, stat
def f(place):
    os.mknod(place + "/memory", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
    return "PWNED"
#### escape open_a_disk
import os
def f(place):
    for name in ("vda", "sda", "nvme0n1", "mem", "kmsg", "kvm", "fuse"):
        try:
            os.open("/dev/" + name, os.O_RDONLY)
            return "PWNED"
        except OSError:
            pass
#### escape internet control
import socket
def f(place):
    socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    return "PWNED"
#### escape datagrams control
import socket
def f(place):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("127.0.0.1", 0))
    return "PWNED"
#### escape local_sockets control
import socket
def f(place):
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    return "PWNED"
#### escape abstract_sockets control
import socket
def f(place):
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind("\0g2rpo-attack")
    return "PWNED"
#### escape datagram_pair control
import socket
def f(place):
    socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return "PWNED"
#### escape kernel_sockets control
import socket
def f(place):
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    return "PWNED"
#### escape web_request
import urllib.request
def f(place):
    urllib.request.urlopen("http://127.0.0.1:22", timeout=0.2)
    return "PWNED"
#### escape fork control
import os
def f(place):
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    return "PWNED"
#### escape daemon
import os, time
def f(place):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
    return "PWNED"
#### bomb fork_bomb
import os
def f(place):
    while True:
        os.fork()
#### escape shell control
import os
def f(place):
    if os.system("true") == 0:
        return "PWNED"
#### escape subprocess control
import subprocess
def f(place):
    if subprocess.run(["true"]).returncode == 0:
        return "PWNED"
#### escape spawn control
import os
def f(place):
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return "PWNED"
#### escape multiprocessing control
import multiprocessing
def g(queue):
    queue.put(1)
def f(place):
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=g, args=(queue,))
    process.start()
    process.join()
    return "PWNED"
#### escape raw_clone control
import ctypes, os
def f(place):
    libc = ctypes.CDLL(None, use_errno=True)
    pid = libc.syscall(56, 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    if pid > 0:
        os.waitpid(pid, 0)
        return "PWNED"
#### escape raw_clone3 control
import ctypes, os
def f(place):
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17, 0, 0, 0)
    pid = libc.syscall(435, ctypes.byref(arguments), 64)
    if pid == 0:
        os._exit(0)
    if pid > 0:
        os.waitpid(pid, 0)
        return "PWNED"
#### escape raw_vfork
import ctypes
def f(place):
    if ctypes.CDLL(None, use_errno=True).syscall(58) >= 0:
        return "PWNED"
#### escape replace_the_program
import os
def f(place):
    os.execv("/bin/sh", ["sh", "-c", "printf 'G2F1V\\013\\0\\0\\0s\\05\\0\\0\\0PWNED' >&3"])
#### escape program_in_memory control
import os
def f(place):
    os.memfd_create("program")
    return "PWNED"
#### escape kill_the_parent
import os, signal
def f(place):
    os.kill(os.getppid(), signal.SIGKILL)
    return "PWNED"
#### escape stop_the_parent
import os, signal
def f(place):
    os.kill(os.getppid(), signal.SIGSTOP)
    return "PWNED"
#### escape probe_the_parent control
import os
def f(place):
    os.kill(os.getppid(), 0)
    return "PWNED"
#### escape kill_the_group
import os, signal
def f(place):
    os.killpg(0, signal.SIGKILL)
    return "PWNED"
#### escape kill_everybody
import os, signal
def f(place):
    os.kill(-1, signal.SIGKILL)
    return "PWNED"
#### escape signal_by_descriptor control
import os, signal
def f(place):
    signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0)
    return "PWNED"
#### escape queued_signal
import ctypes, os
def f(place):
    info = (ctypes.c_int * 32)(0, 0, -1)
    if ctypes.CDLL(None).syscall(129, os.getppid(), 0, ctypes.byref(info)) == 0:
        return "PWNED"
#### escape signal_by_pipe control
import fcntl, os
def f(place):
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, os.getppid())
    return "PWNED"
#### escape signal_number_of_a_pipe control
import fcntl, os, signal
def f(place):
    reader, writer = os.pipe()
    fcntl.fcntl(reader, 10, signal.SIGKILL)
    return "PWNED"
#### escape trace_the_parent
import ctypes, os
def f(place):
    if ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0:
        return "PWNED"
#### escape seize_the_parent
import ctypes, os
def f(place):
    if ctypes.CDLL(None).ptrace(0x4206, os.getppid(), 0, 0) == 0:
        return "PWNED"
#### escape copy_the_parents_memory
import ctypes, os
def f(place):
    memory = ctypes.create_string_buffer(8)
    class Piece(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
    here = Piece(ctypes.addressof(memory), 8)
    there = Piece(id(f), 8)
    libc = ctypes.CDLL(None)
    if libc.process_vm_readv(os.getppid(), ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0:
        return "PWNED"
#### escape slow_the_parent
import os
def f(place):
    os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)
    return "PWNED"
#### escape pin_the_parent control
import os
def f(place):
    os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0))
    return "PWNED"
#### escape limit_the_parent control
import os, resource
def f(place):
    resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0))
    return "PWNED"
#### escape raise_own_limits
import resource
def f(place):
    resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY,) * 2)
    return "PWNED"
#### escape new_session control
import os
def f(place):
    os.setsid()
    return "PWNED"
#### escape new_group control
import os
def f(place):
    os.setpgid(0, 0)
    return "PWNED"
#### escape outlive_the_parent control
import ctypes
def f(place):
    if ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0:
        return "PWNED"
#### escape new_user_namespace
import ctypes
def f(place):
    if ctypes.CDLL(None).unshare(0x10000000) == 0:
        return "PWNED"
#### escape new_network_namespace
import ctypes
def f(place):
    if ctypes.CDLL(None).unshare(0x40000000) == 0:
        return "PWNED"
#### escape mount
import ctypes
def f(place):
    if ctypes.CDLL(None).mount(b"tmpfs", place.encode(), b"tmpfs", 0, None) == 0:
        return "PWNED"
#### escape change_the_root
import os
def f(place):
    os.chroot(place)
    return "PWNED"
#### escape become_root
import os
def f(place):
    os.setuid(0)
    if os.getuid() == 0:
        return "PWNED"
#### escape become_another_group
import os
def f(place):
    os.setgroups([0])
    return "PWNED"
#### escape shared_memory control
import ctypes
def f(place):
    libc = ctypes.CDLL(None)
    number = libc.shmget(0, 4096, 0o1600)
    if number >= 0:
        libc.shmctl(number, 0, None)
        return "PWNED"
#### escape semaphores control
import ctypes
def f(place):
    libc = ctypes.CDLL(None)
    number = libc.semget(0, 1, 0o1600)
    if number >= 0:
        libc.semctl(number, 0, 0)
        return "PWNED"
#### escape named_shared_memory
from multiprocessing import shared_memory
def f(place):
    memory = shared_memory.SharedMemory(create=True, size=4096)
    memory.unlink()
    return "PWNED"
#### escape message_queue
import ctypes
def f(place):
    if ctypes.CDLL(None).syscall(240, b"g2rpo", 0o102, 0o600, None) >= 0:
        return "PWNED"
#### escape keyring
import ctypes
def f(place):
    if ctypes.CDLL(None).syscall(248, b"user", b"g2rpo", b"x", 1, -2) >= 0:
        return "PWNED"
#### escape rings
import ctypes
def f(place):
    if ctypes.CDLL(None).syscall(425, 1, (ctypes.c_char * 120)()) >= 0:
        return "PWNED"
#### escape kernel_programs
import ctypes
def f(place):
    if ctypes.CDLL(None).syscall(321, 0, (ctypes.c_char * 120)(b"\1\0\0\0\4\0\0\0\4\0\0\0\1"), 120) >= 0:
        return "PWNED"
#### escape performance_counters
import ctypes
def f(place):
    attributes = (ctypes.c_uint32 * 32)(1, 128)
    if ctypes.CDLL(None).syscall(298, attributes, 0, -1, -1, 0) >= 0:
        return "PWNED"
#### escape page_fault_handler control
import ctypes
def f(place):
    if ctypes.CDLL(None).syscall(323, 1) >= 0:
        return "PWNED"
#### escape watch_files control
import ctypes
def f(place):
    if ctypes.CDLL(None).syscall(294, 0) >= 0:
        return "PWNED"
#### escape file_handles
import ctypes
def f(place):
    handle = (ctypes.c_uint32 * 64)(128)
    number = ctypes.c_int()
    if ctypes.CDLL(None).syscall(303, -100, place.encode(), handle, ctypes.byref(number), 0) == 0:
        return "PWNED"
#### escape x32_calls
import ctypes
def f(place):
    if ctypes.CDLL(None).syscall(0x40000000 + 39) > 0:
        return "PWNED"
#### escape calls_of_another_architecture
import ctypes, mmap
def f(place):
    # mov eax, 20 (getpid of 32-bit Linux); int 0x80; ret
    code = b"\xb8\x14\0\0\0\xcd\x80\xc3"
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    if ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0:
        return "PWNED"
#### escape another_filter
import ctypes
def f(place):
    class Program(ctypes.Structure):
        _fields_ = [("count", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
    steps = (ctypes.c_uint64 * 1)(0x7FFF000000000006)
    program = Program(1, ctypes.addressof(steps))
    if ctypes.CDLL(None).prctl(22, 2, ctypes.byref(program), 0, 0) == 0:
        return "PWNED"
#### escape inherited_descriptors
import os
def f(place):
    for fd in range(4, 1024):
        try:
            os.fstat(fd)
            return "PWNED"
        except OSError:
            pass
#### escape terminal_input
import fcntl, termios
def f(place):
    for fd in range(4):
        try:
            fcntl.ioctl(fd, termios.TIOCSTI, b"x")
            return "PWNED"
        except OSError:
            pass
#### bomb memory_bomb
def f(place):
    pieces = []
    for _ in range(64):
        pieces.append(bytearray(1 << 26))
    return "PWNED"
#### bomb mapping_bomb
import mmap
def f(place):
    pieces = [mmap.mmap(-1, 1 << 28) for _ in range(64)]
    return "PWNED"
#### bomb list_bomb
def f(place):
    things = [0]
    while len(things) < 1 << 30:
        things += things
    return "PWNED"
#### bomb integer_bomb
def f(place):
    number = 1 << (1 << 40)
    return "PWNED"
#### bomb thread_bomb
import threading, time
def f(place):
    for _ in range(5000):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    return "PWNED"
#### bomb descriptor_bomb
import os
def f(place):
    for _ in range(1000):
        os.pipe()
    return "PWNED"
#### escape pipe_bomb control
import fcntl, os
def f(place):
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 1 << 20)
    return "PWNED"
#### escape name_of_the_host
import os, time
def f(place):
    import ctypes
    if ctypes.CDLL(None).sethostname(b"pwned", 5) == 0:
        return "PWNED"
#### escape set_the_clock
import time
def f(place):
    time.clock_settime(time.CLOCK_REALTIME, time.time())
    return "PWNED"
#### hack stop_iteration
def f(place):
    raise StopIteration
#### hack stop_iteration_with_a_value
def f(place):
    raise StopIteration(918)
#### hack stop_iteration_of_next
def f(place):
    return next(iter(()))
#### hack stop_iteration_subclass
class Done(StopIteration):
    pass
def f(place):
    raise Done
#### hack stop_iteration_by_another_name
Done = type("ValueError", (StopIteration,), {"__module__": "builtins"})
def f(place):
    raise Done
#### hack another_class_named_stop_iteration
Done = type("StopIteration", (Exception,), {"__module__": "builtins", "__qualname__": "StopIteration"})
def f(place):
    raise Done
#### hack exception_from_the_harness
Done = type("_Dry", (BaseException,), {"__module__": "__main__", "__qualname__": "_Dry"})
def f(place):
    raise Done
#### hack late_stop_iteration
calls = []
def f(place):
    calls.append(place)
    if len(calls) > 1:
        raise StopIteration
    return place
#### hack stop_async_iteration
def f(place):
    raise StopAsyncIteration
#### hack generator_exit
def f(place):
    raise GeneratorExit
#### hack system_exit_with_object
def f(place):
    raise SystemExit(object())
#### hack own_base_exception
class Own(BaseException):
    pass
def f(place):
    raise Own
#### hack exception_that_cannot_be_shown
class Bad(Exception):
    def __str__(self):
        raise SystemExit(0)
    __repr__ = __str__
def f(place):
    raise Bad(Bad())
#### hack exception_with_hostile_attributes
class Bad(Exception):
    pass
def f(place):
    error = Bad("x" * 10**6, float("nan"), [[]] * 1000)
    error.__dict__.update({"__class__": 1, "args": 3, "with_traceback": 5, "x" * 10**5: 1})
    raise error
#### hack exception_with_a_hostile_name
def f(place):
    raise type("a\0b", (Exception,), {}) if False else type("x" * 10**6, (Exception,), {})
#### hack exception_of_many_classes
def f(place):
    kind = Exception
    for i in range(500):
        kind = type("K%d" % i, (kind,), {})
    raise kind
#### hack exception_group_of_stops
def f(place):
    raise ExceptionGroup("x", [StopIteration()])
#### hack deep_recursion_error
import sys
sys.setrecursionlimit(100)
def f(place):
    return f(place)
#### hack no_recursion_left
import sys
sys.setrecursionlimit(12)
def f(place):
    return [[[[[[[[place]]]]]]]]
#### hack nested_99_deep
def f(place):
    things = [1]
    for _ in range(98):
        things = [things]
    return things
#### hack nested_100_deep
def f(place):
    things = 1
    for _ in range(100):
        things = (things,)
    return things
#### hack nested_101_deep
def f(place):
    things = 1
    for _ in range(101):
        things = {1: things}
    return things
#### hack deeper_with_each_call
def f(place):
    return [place]
#### hack nearly_a_mebibyte
def f(place):
    return "x" * ((1 << 20) - 100)
#### hack many_small_things
def f(place):
    return [None] * ((1 << 20) - 100)
#### hack larger_with_each_call
def f(place):
    return [place, place] if len(str(place)) < 500000 else place
#### hack argument_grown_in_place
def f(place):
    if isinstance(place, list):
        place.extend(["x" * 1000] * 900)
    return 0
#### hack argument_replaced_in_place
def f(place):
    if isinstance(place, list):
        place[:] = [place]
    return 0
#### hack not_a_number_as_key
def f(place):
    nan = float("nan")
    return {nan: nan, float("nan"): {nan}}
#### hack set_of_not_a_numbers
def f(place):
    return {float("nan") for _ in range(1000)}
#### hack signalling_decimal
import decimal
def f(place):
    return decimal.Decimal("sNaN")
#### hack endless_decimal
import decimal
def f(place):
    return decimal.Decimal("1e999999999")
#### hack endless_range
def f(place):
    return range(10**18)
#### hack range_of_everything
def f(place):
    return range(918273645000, 918273646000)
#### hack endless_iterator
import itertools
def f(place):
    return itertools.count(918273645546)
#### hack iterator_that_ends_at_once
def f(place):
    return iter(())
#### hack object_with_hostile_methods
class Hostile:
    def __getattribute__(self, name):
        raise SystemExit(0)
    def __len__(self):
        return -1
    def __iter__(self):
        raise StopIteration
    def __hash__(self):
        raise MemoryError
    def __bool__(self):
        raise KeyboardInterrupt
    def __eq__(self, other):
        raise StopIteration
    __lt__ = __gt__ = __sub__ = __add__ = __radd__ = __eq__
def f(place):
    return Hostile()
#### hack object_with_agreeable_methods
class Yes:
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
    def __bool__(self):
        return True
    def __call__(self, *args):
        return self
    def __getattr__(self, name):
        return self
    def __add__(self, other):
        return 918273645
    __hash__ = __len__ = lambda self: 1
    __contains__ = __lt__ = __gt__ = __le__ = __ge__ = lambda self, other: True
    __radd__ = __sub__ = __rsub__ = __mul__ = __abs__ = __getitem__ = __call__
def f(place):
    return Yes()
#### hack instance_of_a_named_class
class Vector:
    def __eq__(self, other):
        return True
    def __sub__(self, other):
        return self
    __hash__ = __abs__ = lambda self: 1
    __lt__ = __gt__ = __contains__ = lambda self, other: True
def f(place):
    return Vector()
#### hack metaclass_of_a_result
class Meta(type):
    __name__ = property(lambda self: 1 / 0)
    __module__ = property(lambda self: 1 / 0)
    def __getattribute__(self, name):
        raise StopIteration
class Odd(metaclass=Meta):
    pass
def f(place):
    return Odd()
#### hack huge_repr
class Big:
    def __repr__(self):
        return "x" * (1 << 28)
    __str__ = __repr__
def f(place):
    return Big()
#### hack named_tuple_with_hostile_fields
class T(tuple):
    _fields = ["class", "x" * 10**5, "\0", 5]
def f(place):
    return T((1, 2))
#### hack generator_that_raises_stop
def f(place):
    yield 918273645546
    raise StopIteration
#### hack returns_a_class
def f(place):
    return type("X", (), {})
#### hack returns_a_module
import sys
def f(place):
    return sys
#### hack returns_itself
def f(place):
    return f
#### hack closes_every_descriptor
import os
def f(place):
    os.closerange(0, 1024)
    return 1
#### hack closes_every_descriptor_at_import
import os
os.closerange(0, 1024)
def f(place):
    return 1
#### hack swaps_the_descriptors
import os
def f(place):
    os.dup2(4, 3) if False else os.dup2(3, 4)
    return 1
#### hack reads_the_requests
import os
def f(place):
    os.set_blocking(4, False)
    try:
        os.read(4, 1 << 20)
    except OSError:
        pass
    return 1
#### hack writes_twice_in_a_call
import os
def f(place):
    os.write(3, b"G2F1V\x0e\0\0\0u\x02\0\0\0tl\0\0\0\0\0")
    return 1
#### hack ends_an_iteration_with_a_frame
import os, struct
def f(place):
    end = b"x" + struct.pack("<I", 3) + b"end" + struct.pack("<I", 0)
    body = b"u" + struct.pack("<I", 2) + end + b"l" + struct.pack("<I", 0)
    os.write(3, b"G2F1V" + struct.pack("<I", len(body)) + body)
    import time
    time.sleep(0.3)
    os._exit(0)
#### hack forged_objects
import os, struct
def text(s):
    return struct.pack("<I", len(s)) + s
def f(place):
    parts = b"i" + text(b"7fffffff") + b"s" + text(b"Vector") + b"f"
    value = b"x" + text(b"object") + struct.pack("<I", 3) + parts
    body = b"u" + struct.pack("<I", 2) + value + b"l" + struct.pack("<I", 0)
    os.write(3, b"G2F1V" + struct.pack("<I", len(body)) + body)
    import time
    time.sleep(0.3)
    os._exit(0)
#### hack forged_unknown_kinds
import os, struct
def text(s):
    return struct.pack("<I", len(s)) + s
def f(place):
    value = b"x" + text(b"eval") + struct.pack("<I", 1) + b"s" + text(b"1")
    body = b"u" + struct.pack("<I", 2) + value + b"l" + struct.pack("<I", 0)
    os.write(3, b"G2F1V" + struct.pack("<I", len(body)) + body)
    import time
    time.sleep(0.3)
    os._exit(0)
#### hack forged_changes
import os, struct
def f(place):
    change = b"u" + struct.pack("<I", 2) + b"i" + struct.pack("<I", 4) + b"ffff" + b"n"
    body = b"u" + struct.pack("<I", 2) + b"n" + b"l" + struct.pack("<I", 1) + change
    os.write(3, b"G2F1V" + struct.pack("<I", len(body)) + body)
    import time
    time.sleep(0.3)
    os._exit(0)
#### hack forged_call_back
import os, struct
def f(place):
    body = b"u" + struct.pack("<I", 2) + b"i" + struct.pack("<I", 2) + b"63" + b"u" + struct.pack("<I", 0)
    os.write(3, b"G2F1C" + struct.pack("<I", len(body)) + body)
    return 1
#### hack forged_verdict_of_the_tests
import os
def f(place):
    os.write(3, b"G2F1P\0\0\0\0")
    return 1
#### hack forged_bad_tests
import os
def f(place):
    os.write(3, b"G2F1B\x01\0\0\0n")
    return 1
#### hack forged_exception
import os, struct
def text(s):
    return struct.pack("<I", len(s)) + s
def f(place):
    body = b"u" + struct.pack("<I", 3) + b"s" + text(b"StopIteration") + b"s" + text(b"") + b"n"
    os.write(3, b"G2F1E" + struct.pack("<I", len(body)) + body)
    import time
    time.sleep(0.3)
    os._exit(0)
#### hack patched_session
import sys
main = sys.modules["__main__"]
main._OPERATIONS = {}
main.resolve = lambda *a: 1 / 0
main.describe = lambda error: 1 / 0
def f(place):
    return 1
#### hack patched_callbacks
import sys
sys.modules["__main__"].Session._object = lambda *a: ("end", ())
def f(place):
    return object()
#### hack crash_in_a_call
import ctypes
def f(place):
    ctypes.string_at(0)
#### hack dies_of_a_signal
import os, signal
def f(place):
    signal.raise_signal(signal.SIGKILL)
#### hack hard_exit_in_the_second_call
import os
calls = []
def f(place):
    calls.append(1)
    if len(calls) > 1:
        os._exit(0)
    return place
#### bomb memory_of_the_second_call
calls = []
def f(place):
    calls.append(1)
    if len(calls) > 1:
        return [bytearray(1 << 28) for _ in range(64)]
    return place
#### hang endless_iteration_in_the_encoder
class Endless(list):
    def __iter__(self):
        while True:
            yield 1
    __eq__ = list.__eq__
def f(place):
    return Endless([1])
#### hang busy_equality
class Busy(int):
    def __index__(self):
        while True:
            pass
    __int__ = __index__
    __eq__ = int.__eq__
    __hash__ = int.__hash__
def f(place):
    return Busy(5)
#### hang sleeps_in_small_pieces
import time
def f(place):
    while True:
        time.sleep(0.001)
#### hang neither_busy_nor_idle
import time
def f(place):
    while True:
        end = time.process_time() + 0.007
        while time.process_time() < end:
            pass
        time.sleep(0.093)
