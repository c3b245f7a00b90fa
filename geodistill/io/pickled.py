"""A pickle read as data: a machine for its opcodes that builds plain values and calls nothing.

What the file names is looked up in a table of ours; what an unknown name makes is left out, and
its place marked. Source: the opcodes of protocols 0 to 5 as the standard library's `pickletools`
documents them.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from mmap import mmap
from typing import IO, Any, cast

from geodistill.checks import GeodistillError, holds_at_most

MOST_OPCODES = 5_000_000
_MOST_SHARED = 1_000_000
"""Items of its value beyond one for each step, which are there by being referred to again."""
_LONGEST_INTEGER = 16 * 8
_MARK = object()
_CAUSED = (ValueError, TypeError, IndexError, OverflowError, AttributeError, RuntimeError)
_KEYS = (str, int, float, bytes, bool, type(None))


class Damage(Exception):
    """The pickle is none, or says what no pickle of data says; the text says what."""


@dataclass(frozen=True)
class Call:
    """What stands for a function or class that the file names; `make` takes its arguments."""

    name: str
    make: Callable[..., Any]


@dataclass(frozen=True)
class Unread:
    """What stands for a class or function that the table lacks, and for all that it makes.

    Attributes:
        name: as the file has it, or what it stands for in words.
    """

    name: str


@dataclass
class Built:
    """What stands for an object that gets its state after it is made, by `set_state`."""

    value: Any = None
    set_state: Callable[[Any, Any], None] | None = None


@dataclass
class _Machine:
    known: Mapping[str, Any]
    persistent: Callable[[Any], Any]
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def popped(self) -> list[Any]:
        """What lies above the last mark, which goes too."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                items = self.stack[at + 1 :]
                del self.stack[at:]
                return items
        raise Damage("it closes what it never opened")

    def look_up(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self.known:
            return Unread("".join(c if c.isprintable() else "?" for c in full[:80]))
        return self.known[full]


def read_pickle(
    file: IO[bytes] | mmap, known: Mapping[str, Any], persistent: Callable[[Any], Any]
) -> Any:
    """The value of the pickle that begins at the file's place; afterwards the file stands behind.

    Args:
        known: what stands for each name "module.class" that the file may use: a `Call`, or any
            value that is only passed on.
        persistent: from a persistent id of the file to its value.

    Raises Damage for what is no pickle of data.
    """
    machine = _Machine(known, persistent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in texts
            return _run(machine, file)
    except GeodistillError:  # which is a ValueError too
        raise
    except _CAUSED as error:
        raise Damage(ascii(str(error)[:80])[1:-1]) from None


def _run(machine: _Machine, file: IO[bytes] | mmap) -> Any:
    for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], file))):
        if count >= MOST_OPCODES:
            raise Damage(f"it has more than {MOST_OPCODES} steps")
        if opcode.name == "STOP":
            value = _plain(machine.stack.pop())
            if not holds_at_most(value, count + _MOST_SHARED):
                raise Damage("it holds one container over and over")
            return value
        step = _STEPS.get(opcode.name)
        if step is None:
            raise Damage(f"it uses the opcode {opcode.name}, which data does not need")
        step(machine, argument)
    raise Damage("it has no end")


def _plain(value: Any) -> Any:
    if value is _MARK:
        raise Damage("it opens what it never closes")
    return value.value if isinstance(value, Built) else value


def _push(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(value)


def _push_new(make: Callable[[], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(make())


def _argument(machine: _Machine, argument: Any) -> None:
    if isinstance(argument, int) and argument.bit_length() > _LONGEST_INTEGER:
        raise Damage("it holds an integer of more than 16 bytes")
    machine.stack.append(argument)


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        if len(machine.stack) < count:
            raise Damage("it takes from an empty stack")
        start = len(machine.stack) - count
        items = machine.stack[start:]
        del machine.stack[start:]
        machine.stack.append(tuple(map(_plain, items)))

    return step


def _tuple(machine: _Machine, _: Any) -> None:
    machine.stack.append(tuple(map(_plain, machine.popped())))


def _global(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.stack.append(machine.look_up(module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(module, str) or not isinstance(name, str):
        raise Damage("it names a class by what is no text")
    machine.stack.append(machine.look_up(module, name))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    if isinstance(function, Unread):
        machine.stack.append(function)
        return
    if not isinstance(function, Call) or not isinstance(arguments, tuple):
        raise Damage("it calls what is no function")
    machine.stack.append(function.make(*arguments))


def _build(machine: _Machine, _: Any) -> None:
    state = _plain(machine.stack.pop())
    target = machine.stack[-1]
    if isinstance(target, Built) and target.set_state is not None:
        target.set_state(target, state)
    elif not isinstance(target, dict | Unread):
        raise Damage("it changes what has no state")


def _set_items(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if isinstance(target, Unread):
        return
    if not isinstance(target, dict):
        raise Damage("it puts an item into what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        key = _plain(key)
        if isinstance(key, Unread):
            value, key = key, f"unread {len(target)}"  # its place stays marked
        if not isinstance(key, _KEYS):
            raise Damage(f"a dictionary has a key of type {type(key).__name__}")
        target[key] = _plain(value)


def _append(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if isinstance(target, Unread):
        return
    if not isinstance(target, list):
        raise Damage("it appends to what is no list")
    target.extend(map(_plain, items))


def _add_items(machine: _Machine, _: Any) -> None:
    items, target = machine.popped(), machine.stack[-1]
    if isinstance(target, Unread):
        return
    if not isinstance(target, set):
        raise Damage("it adds to what is no set")
    target.update(scalars(items))


def scalars(items: Any) -> list[Any]:
    """The items, each of them a number, text, bytes or None; Damage where one is not."""
    found = [*map(_plain, items)]
    if not all(isinstance(item, _KEYS) for item in found):
        raise Damage("a set holds what is no number or text")
    return found


def _dict(machine: _Machine, _: Any) -> None:
    items = machine.popped()
    machine.stack.append({})
    _set_items(machine, items)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _set_items(machine, [key, value])


def _append_one(machine: _Machine, _: Any) -> None:
    item = machine.stack.pop()
    _append(machine, [item])


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _put(machine: _Machine, argument: Any) -> None:
    machine.memo[int(argument)] = machine.stack[-1]


def _get(machine: _Machine, argument: Any) -> None:
    if int(argument) not in machine.memo:
        raise Damage("it refers to what it never stored")
    machine.stack.append(machine.memo[int(argument)])


def _persistent(machine: _Machine, _: Any) -> None:
    machine.stack.append(machine.persistent(machine.stack.pop()))


def _pass(machine: _Machine, _: Any) -> None:
    pass


def _pop(machine: _Machine, _: Any) -> None:
    machine.stack.pop()


_VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES"),
    *("BINBYTES8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
)
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(_VALUES, _argument),
    **dict.fromkeys(("PROTO", "FRAME"), _pass),
    "NONE": _push(None),
    "NEWTRUE": _push(True),
    "NEWFALSE": _push(False),
    "EMPTY_TUPLE": _push(()),
    "EMPTY_LIST": _push_new(list),
    "EMPTY_DICT": _push_new(dict),
    "EMPTY_SET": _push_new(set),
    "MARK": _push(_MARK),
    "TUPLE": _tuple,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "LIST": lambda machine, _: machine.stack.append([*map(_plain, machine.popped())]),
    "DICT": _dict,
    "APPEND": _append_one,
    "APPENDS": lambda machine, _: _append(machine, machine.popped()),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: _set_items(machine, machine.popped()),
    "ADDITEMS": _add_items,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "BUILD": _build,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": _memoize,
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "BINPERSID": _persistent,
    "POP": _pop,
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
}
