"""Exact-type values as bytes, the format that `value.rs` reads. The other way values come marshalled.

A value is a tag byte and its content: n None, t True, f False, i integer in hexadecimal, d double,
c complex, s string, b bytes, l list, u tuple, S set, F frozenset, m dict, x a name and parts. Lengths and
counts are 32-bit, little-endian.
"""

import collections
import decimal
import fractions
import struct

MAX_DEPTH = 100


class Unsupported(Exception):
    """A value has a type that does not cross the pipe; the argument is the type's name."""


def _sized(tag, content):
    return tag + struct.pack("<I", len(content)) + content


def encode(value, limit, typed=None):
    """The bytes of `value`. Subclasses with an equality of their own are refused.

    `typed` gives for what is no plain scalar a name and a tuple of parts, or None where it has none.
    """
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
        else:
            name, parts = (typed(value) if typed is not None else None) or (None, None)
            if name is not None:
                put(_sized(b"x", name.encode()) + struct.pack("<I", len(parts)))
                for part in parts:
                    walk(part, depth + 1)
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
                walk(_plain(value, kind), depth + 1)

    walk(value, 0)
    return b"".join(out)


_SEQUENCES = {list: b"l", tuple: b"u", set: b"S", frozenset: b"F"}
# These compare with a plain dict as a plain dict does.
_MAPPINGS = {dict, collections.OrderedDict, collections.defaultdict, collections.Counter}
_BASES = (int, float, complex, str, bytes, list, tuple, set, frozenset, dict)


def _plain(value, kind):
    """The plain value that Python calls equal to `value`, of another type."""
    if kind.__module__ == "numpy" and hasattr(kind, "item"):
        plain = value.item() if getattr(value, "shape", None) == () else None
        if type(plain) in (bool, int, float, complex):
            return plain
    elif kind in (decimal.Decimal, fractions.Fraction):
        # A number that is no double equals no literal.
        for plain in (int, float):
            try:
                if plain(value) == value:
                    return plain(value)
            except (ValueError, OverflowError):
                pass
    elif kind in (type({}.keys()), type({}.items())):
        return set(value)
    elif kind is bytearray:
        return bytes(value)
    else:
        # A named tuple or an IntEnum, whose equality is that of its base.
        for base in _BASES:
            if issubclass(kind, base) and kind.__eq__ is base.__eq__:
                return str.__str__(value) if base is str else base(value)
    raise Unsupported(kind.__name__)
