"""What the names in a PyTorch checkpoint stand for: tensors, NumPy's numbers, containers.

Source: torch/_utils.py and torch/_tensor.py (the functions `_rebuild_*`), and NumPy's `__reduce__`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geodistill.checks import shown
from geodistill.io.pickled import Built, Call, Damage, Unread, scalars

if TYPE_CHECKING:
    from torch import Tensor

STORAGES = {
    "Double": (8, "float64"), "Float": (4, "float32"), "Half": (2, "float16"),
    "BFloat16": (2, "bfloat16"), "Long": (8, "int64"), "Int": (4, "int32"), "Short": (2, "int16"),
    "Char": (1, "int8"), "Byte": (1, "uint8"), "Bool": (1, "bool"), "Untyped": (1, "uint8"),
}  # fmt: skip
"""Bytes of a number, and its PyTorch type, by the class of the storage."""
_DTYPES = {f"torch.{dtype}" for _, dtype in STORAGES.values()}
_MOST_AXES = 32
_NUMBERS = re.compile(r"[biufc]\d{1,2}|[SU]\d{1,5}")
_LONGEST_DEVICE = 40
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_IN_WORDS = {
    "_rebuild_sparse": "sparse tensor",
    "_rebuild_qtensor": "quantised tensor",
    "_rebuild_nested": "nested tensor",
    "_rebuild_meta": "tensor without values",
}


class Storage(NamedTuple):
    """Bytes of tensors, aligned for any number, and the PyTorch type that the file gives them."""

    content: np.ndarray
    dtype: str


def in_words(name: str) -> str:
    """What a checkpoint holds that names this class or function."""
    known = [words for part, words in _IN_WORDS.items() if part in name]
    return known[0] if known else ascii(name[:80])[1:-1]


def natural(value: Any) -> bool:
    """Whether it is a count."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def known_names(budget: int) -> dict[str, Any]:
    """What the names in a checkpoint stand for.

    Copies that the file asks for, of what it holds, take `budget` bytes or items in all.
    """
    copies = _Copies(budget)
    known = {
        "collections.OrderedDict": Call("OrderedDict", copies.ordered),
        "collections.Counter": Call("Counter", copies.ordered),
        "collections.defaultdict": Call(
            "defaultdict", lambda factory=None, *items: copies.ordered(*items)
        ),
        "_codecs.encode": Call("encode", copies.encoded),
        "torch.Size": Call("Size", copies.listed),
        **{f"{module}.scalar": Call("scalar", copies.scalar) for module in _MULTIARRAY},
    }
    for module in ("builtins", "__builtin__"):
        known |= {
            f"{module}.set": Call("set", copies.some_set),
            f"{module}.dict": Call("dict", copies.ordered),
            f"{module}.bytes": Call("bytes", lambda: b""),
            **{
                f"{module}.{name}": Call(name, _leave_out(f"{module}.{name}"))
                for name in ("list", "int", "float", "str", "bool", "tuple")
            },
        }
    return {**_TENSORS, **_NUMPY, **known}


class _Copies:
    """Containers and numbers made of what a file holds, until the budget for them is spent."""

    def __init__(self, budget: int) -> None:
        self.left = budget

    def _spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise Damage("it copies what it holds over and over")

    def listed(self, items: Any = ()) -> tuple[Any, ...]:
        if not isinstance(items, (list, tuple)):
            raise Damage("a container is made of what is no list")
        self._spend(len(items))
        return tuple(items)

    def encoded(self, text: str, encoding: str = "utf-8") -> bytes:
        if encoding not in ("latin1", "latin-1", "utf-8", "ascii") or not isinstance(text, str):
            raise Damage("it encodes a text in an unknown way")
        self._spend(len(text))
        return text.encode(encoding)

    def ordered(self, items: Any = ()) -> dict[Any, Any]:
        pairs = self.listed([*items.items()] if isinstance(items, dict) else items)
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
            raise Damage("a dictionary is made of what are no pairs")
        return dict(zip(scalars(key for key, _ in pairs), [v for _, v in pairs], strict=True))

    def some_set(self, items: Any = ()) -> set[Any]:
        return set(scalars(self.listed(items)))

    def scalar(self, dtype: Any, content: Any) -> Any:
        if not isinstance(dtype, np.dtype) or not isinstance(content, bytes):
            raise Damage("a NumPy number is made of what is none")
        if len(content) != dtype.itemsize:
            raise Damage("a NumPy number has another length than its type")
        self._spend(len(content))
        return np.frombuffer(content, dtype)[0]


def _leave_out(what: str) -> Callable[..., Unread]:
    return lambda *_: Unread(what)


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *_: Any, dtype: str | None = None
) -> Tensor | Unread | None:
    """torch._utils._rebuild_tensor_v2: numbers of a storage by their strides."""
    if storage is None or isinstance(storage, Unread):
        return storage
    import torch

    if not isinstance(storage, Storage) or not isinstance(size, tuple):
        raise Damage("a tensor is made of what is no storage")
    if not isinstance(stride, tuple) or len(size) != len(stride) or len(size) > _MOST_AXES:
        raise Damage("a tensor contradicts itself on its shape")
    if not all(map(natural, (offset, *size, *stride))):
        raise Damage("a tensor has a negative shape")
    kind = getattr(torch, dtype or storage.dtype)
    width = kind.itemsize
    count, reach = 1, offset
    for length, step in zip(size, stride, strict=True):
        count, reach = count * length, reach + max(length - 1, 0) * step
    held = len(storage.content) // width
    if count and (reach >= held or count > held):
        raise Damage(f"a tensor of shape {[*size]} needs more than the {held} numbers it has")
    if not count:
        return torch.zeros(size, dtype=kind)
    content = storage.content[: held * width]
    return torch.from_numpy(content).view(kind).as_strided(size, stride, offset)


def _tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Tensor | Unread | None:
    """torch._utils._rebuild_tensor_v3, whose storage has no type of its own."""
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise Damage("a tensor has an unknown type")
    return _tensor(storage, offset, size, stride, dtype=dtype.removeprefix("torch."))


def _rebuilt(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor with attributes, which are left out."""
    unread = [one for one in (function, kind) if isinstance(one, Unread)]
    if unread:
        return unread[0]
    if not isinstance(function, Call) or not isinstance(arguments, tuple):
        raise Damage("a tensor is made in an unknown way")
    if not isinstance(kind, Call) or kind.name not in ("Tensor", "Parameter"):
        raise Damage("a tensor is of an unknown class")
    return function.make(*arguments)


def _device(kind: Any, index: Any = None) -> str:
    """torch.device, as text."""
    if not isinstance(kind, str) or len(kind) > _LONGEST_DEVICE:
        raise Damage("a device has no name")
    if index is not None and not natural(index):
        raise Damage("a device has no number")
    return kind if index is None else f"{kind}:{index}"


def _dtype(name: Any, *_: Any) -> Built | Unread:
    """numpy.dtype, of numbers and texts alone; its state says the order of its bytes."""
    if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
        return Unread(f"NumPy array of {shown(name)}")
    dtype = np.dtype(name)

    def set_state(built: Built, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise Damage("a NumPy type has an unknown state")
        built.value = dtype if state[1] == "|" else dtype.newbyteorder(state[1])

    return Built(dtype, set_state)


def _array(*_: Any) -> Built:
    def set_state(built: Built, state: Any) -> None:
        """(version, shape, dtype, whether columns come first, bytes)"""
        if not isinstance(state, tuple) or len(state) != 5:
            raise Damage("a NumPy array has an unknown state")
        _, shape, dtype, transposed, content = state
        if isinstance(dtype, Unread):
            built.value = dtype
            return
        known = isinstance(dtype, np.dtype) and isinstance(content, bytes)
        if not known or not isinstance(shape, tuple) or len(shape) > _MOST_AXES:
            raise Damage("a NumPy array has an unknown state")
        flat = np.frombuffer(content, dtype)
        built.value = flat.reshape(shape, order="F" if transposed else "C")

    return Built(None, set_state)


_NUMPY: dict[str, Any] = {"numpy.dtype": Call("dtype", _dtype), "numpy.ndarray": "ndarray"}
for _module in _MULTIARRAY:
    _NUMPY[f"{_module}._reconstruct"] = Call("_reconstruct", _array)

_TENSORS: dict[str, Any] = {
    "torch._utils._rebuild_tensor": Call("_rebuild_tensor", _tensor),
    "torch._utils._rebuild_tensor_v2": Call("_rebuild_tensor_v2", _tensor),
    "torch._utils._rebuild_tensor_v3": Call("_rebuild_tensor_v3", _tensor_v3),
    "torch._utils._rebuild_parameter": Call("_rebuild_parameter", lambda data, *_: data),
    "torch._utils._rebuild_parameter_with_state": Call("_rebuild_parameter", lambda data, *_: data),
    "torch._tensor._rebuild_from_type_v2": Call("_rebuild_from_type_v2", _rebuilt),
    "torch.Tensor": Call("Tensor", _leave_out("torch.Tensor")),
    "torch.nn.parameter.Parameter": Call("Parameter", lambda data, *_: data),
    "torch.device": Call("device", _device),
    "torch.storage.UntypedStorage": Call("Untyped", _leave_out("torch.storage.UntypedStorage")),
    **{f"torch.{kind}Storage": Call(kind, _leave_out(f"torch.{kind}Storage")) for kind in STORAGES},
    **{name: name for name in _DTYPES},
}
