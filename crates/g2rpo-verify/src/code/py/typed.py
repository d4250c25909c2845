"""Values of a session between tests and solution: those of `values.py`, some types of the standard
library, the containers of a call by their number, and objects that stay where they are.

What marshal cannot hold arrives as a tuple of an Ellipsis, which no value holds, a name and parts.
"""

import collections
import datetime
import decimal
import fractions

_VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
_DICTIONARIES = (collections.OrderedDict, collections.Counter, collections.defaultdict)
CONTAINERS = (list, dict, set, bytearray, collections.deque) + _DICTIONARIES
_FACTORIES = {kind.__name__: kind for kind in (int, float, str, bool, list, tuple, dict, set)}


def to_parts(value, kind):
    """(name, parts) of a value of the standard library that crosses as a value; None of others."""
    if kind is range:
        return "range", (value.start, value.stop, value.step)
    if kind is decimal.Decimal:
        return "Decimal", (str(value),)
    if kind is fractions.Fraction:
        return "Fraction", (value.numerator, value.denominator)
    if kind is collections.deque:
        return "deque", (tuple(value), value.maxlen)
    if kind is bytearray:
        return "bytearray", (bytes(value),)
    if kind in _DICTIONARIES:
        factory = getattr(value, "default_factory", None)
        name = next((name for name, known in _FACTORIES.items() if known is factory), None)
        return kind.__name__, (tuple(value.items()), name)
    if kind is _VIEWS[0]:
        return "keys", (tuple(value),)
    if kind is _VIEWS[1]:
        return "values", (tuple(value),)
    if kind is _VIEWS[2]:
        return "items", (tuple(value),)
    if kind is datetime.date:
        return "date", (value.year, value.month, value.day)
    if kind is datetime.time and value.tzinfo is None:
        return "time", (value.hour, value.minute, value.second, value.microsecond)
    if kind is datetime.datetime and value.tzinfo is None:
        return "datetime", tuple(value.timetuple())[:6] + (value.microsecond,)
    if kind is datetime.timedelta:
        return "timedelta", (value.days, value.seconds, value.microseconds)
    fields = getattr(kind, "_fields", None)
    if issubclass(kind, tuple) and fields and kind.__eq__ is tuple.__eq__:
        return "namedtuple", (kind.__name__, tuple(fields), tuple(value))
    return None


def _named_tuple(name, fields, values):
    return collections.namedtuple(name, fields)(*values)


def _dictionary(kind):
    def build(items, factory):
        built = kind(_FACTORIES.get(factory)) if kind is collections.defaultdict else kind()
        dict.update(built, items) if kind is not collections.OrderedDict else built.update(items)
        return built

    return build


_BUILD = {
    **{kind.__name__: _dictionary(kind) for kind in _DICTIONARIES},
    "range": range,
    "Decimal": decimal.Decimal,
    "Fraction": fractions.Fraction,
    "deque": collections.deque,
    "bytearray": bytearray,
    "keys": lambda keys: dict.fromkeys(keys).keys(),
    "values": lambda values: dict(enumerate(values)).values(),
    "items": lambda items: dict(items).items(),
    "date": datetime.date,
    "time": datetime.time,
    "datetime": datetime.datetime,
    "timedelta": datetime.timedelta,
    "namedtuple": _named_tuple,
}


_PLACED = {"deque", "bytearray", *(kind.__name__ for kind in _DICTIONARIES)}
_DEEP = {list, tuple, dict, set, frozenset}


def _is_deep(items):
    """Whether one of them may hold something to resolve; most hold numbers and text alone."""
    return not _DEEP.isdisjoint(map(type, items))


def resolve(value, special, containers=None):
    """What arrived, with its typed parts built; `special` builds those that this file does not know.

    Containers are appended to `containers` in the order in which the other side numbered them.
    """
    kind = type(value)
    if kind is list:
        if containers is not None:
            containers.append(value)
        if _is_deep(value):
            value[:] = [resolve(item, special, containers) for item in value]
        return value
    if kind is tuple:
        if value and value[0] is ...:
            _, name, *parts = value
            if name == "argument" and containers is not None:
                return containers[parts[0]]
            if name not in _BUILD:
                return special(name, parts)
            place = None
            if containers is not None and name in _PLACED:
                place = len(containers)
                containers.append(None)
            built = _BUILD[name](*[resolve(part, special, containers) for part in parts])
            if place is not None:
                containers[place] = built
            return built
        return tuple([resolve(item, special, containers) for item in value]) if _is_deep(value) else value
    if kind is dict:
        if containers is not None:
            containers.append(value)
        if not _is_deep(value) and not _is_deep(value.values()):
            return value
        items = [
            (resolve(k, special, containers), resolve(v, special, containers)) for k, v in value.items()
        ]
        value.clear()
        value.update(items)
        return value
    if kind is set:
        if containers is not None:
            containers.append(value)
        if _is_deep(value):
            items = [resolve(item, special, containers) for item in value]
            value.clear()
            value.update(items)
        return value
    if kind is frozenset:
        return frozenset([resolve(item, special, containers) for item in value])
    return value


class Numbering:
    """Numbers the containers that `encode` meets, and refers to one that it meets again by its number."""

    def __init__(self, other):
        self.known = {}
        self.order = []
        self.other = other
        self.grows = True

    def __call__(self, value):
        kind = type(value)
        if kind in CONTAINERS:
            number = self.known.get(id(value))
            if number is not None:
                return "argument", (number,)
            if self.grows:
                self.known[id(value)] = len(self.order)
                self.order.append(value)
        return to_parts(value, kind) or self.other(value, kind)


def contents(container):
    """What `replace` takes, in types that are no containers."""
    if type(container) is bytearray:
        return bytes(container)
    if isinstance(container, dict):
        return tuple(container.items())
    return tuple(container)


def replace(container, items):
    """Gives a container other contents in place."""
    if type(container) in (list, bytearray):
        container[:] = items
    elif type(container) is collections.deque:
        container.clear()
        container.extend(items)
    elif type(container) is collections.Counter:
        container.clear()
        # Its own `update` adds.
        dict.update(container, items)
    else:
        container.clear()
        container.update(items)
