"""Exact-type values as bytes, the format that `value.rs` reads. The other way values come marshalled.

A value is a tag byte and its content: n None, t True, f False, i integer in hexadecimal, d double,
c complex, s string, b bytes, l list, u tuple, S set, F frozenset, m dict. Lengths and counts are
32-bit, little-endian.
"""

import collections
import struct

MAX_DEPTH = 100


class Unsupported(Exception):
    """A value has a type that does not cross the pipe; the argument is the type's name."""


def _sized(tag, content):
    return tag + struct.pack("<I", len(content)) + content


def encode(value, limit):
    """The bytes of `value`; subclasses are refused, since their equality is their own."""
    out = []
    size = 0

    def put(piece):
        nonlocal size
        size += len(piece)
        if size > limit:
            raise Unsupported("value longer than the limit")
        out.append(piece)

    def walk(value, depth):
        kind = type(value)
        if depth > MAX_DEPTH:
            raise Unsupported("value nested too deeply")
        if value is None:
            put(b"n")
        elif kind is bool:
            put(b"t" if value else b"f")
        elif kind is int:
            if value.bit_length() > 4 * limit:
                raise Unsupported("value longer than the limit")
            put(_sized(b"i", format(value, "x").encode()))
        elif kind is float:
            put(b"d" + struct.pack("<d", value))
        elif kind is complex:
            put(b"c" + struct.pack("<dd", value.real, value.imag))
        elif kind is str:
            try:
                put(_sized(b"s", value.encode()))
            except UnicodeEncodeError:
                raise Unsupported("str with lone surrogates") from None
        elif kind is bytes:
            put(_sized(b"b", value))
        elif kind in _SEQUENCES:
            put(_SEQUENCES[kind] + struct.pack("<I", len(value)))
            for item in value:
                walk(item, depth + 1)
        elif kind in _MAPPINGS:
            put(b"m" + struct.pack("<I", len(value)))
            for key, item in value.items():
                walk(key, depth + 1)
                walk(item, depth + 1)
        else:
            scalar = _numpy_scalar(value, kind)
            if scalar is None:
                raise Unsupported(kind.__name__)
            walk(scalar, depth + 1)

    walk(value, 0)
    return b"".join(out)


_SEQUENCES = {list: b"l", tuple: b"u", set: b"S", frozenset: b"F"}
# These compare with a plain dict as a plain dict does.
_MAPPINGS = {dict, collections.OrderedDict, collections.defaultdict, collections.Counter}


def _numpy_scalar(value, kind):
    """A numpy number as the plain number that it equals; None for everything else."""
    if kind.__module__ != "numpy" or not hasattr(kind, "item"):
        return None
    plain = value.item() if getattr(value, "shape", None) == () else None
    return plain if type(plain) in (bool, int, float, complex) else None
