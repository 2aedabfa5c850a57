"""Check PyTorch checkpoints before torch loads them; does not need torch.

torch refuses to run code. But a tuple nested 40 times in two copies of itself takes a few hundred bytes and forever to
hash; numbers can be chosen to collide in a hash table; and a zip file may unpack to any size.
"""

from __future__ import annotations

import pickletools  # nosec B403  # only disassembles
import zipfile
from io import BytesIO
from typing import Any, BinaryIO

MOST_PARTS = 2**20  # of a tuple, nested ones included
MOST_STEPS = 2**19  # of the pickle program
LONGEST_PROGRAM = 2**27  # bytes
LARGEST_KEY = 2**32
ZIP, PROTOCOL = b"PK\x03\x04", b"\x80"
PROGRAMS = 5  # in a file written before PyTorch 1.6

_PUTS, _GETS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), ("GET", "BINGET", "LONG_BINGET")
_KEY = "key"  # stands for a value that may be a key


def check_checkpoint(content: bytes) -> None:
    """Check a checkpoint for contents that torch would hang on.

    Raises:
        ValueError: It is not a PyTorch file, or is crafted to do harm.
    """
    file = BytesIO(content)
    if content.startswith(ZIP):
        try:
            _check_zip(file, len(content))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise ValueError(str(error)) from error
    elif content.startswith(PROTOCOL):
        for _ in range(PROGRAMS):
            _check_program(file)
    else:
        raise ValueError("it does not start like a PyTorch file")


def _check_zip(file: BinaryIO, size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("its parts overlap")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                if entry.file_size > LONGEST_PROGRAM:
                    raise ValueError("it holds too much besides tensors")
                with archive.open(entry) as program:
                    _check_program(program)


def _check_program(file: Any) -> None:
    """Simulate a pickle program without running it: count the parts of each value, and check what becomes a key."""
    stack = _Stack()
    memo: dict[Any, Any] = {}
    try:
        for step, (code, argument, _) in enumerate(pickletools.genops(file)):
            if step > MOST_STEPS:
                raise ValueError("it holds too much besides tensors")
            if code.name == "MARK":
                stack.marks.append(len(stack.values))
            elif code.name in _PUTS:
                memo[len(memo) if argument is None else argument] = stack.values[-1]
            elif code.name in _GETS:
                stack.values.append(memo[argument])
            else:
                _follow(stack, code, argument)
    except (IndexError, KeyError, MemoryError, OverflowError) as error:
        raise ValueError("its program is not valid") from error


class _Stack:
    """The pickle stack, with the number of parts for each value, and the positions of the marks."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.marks: list[int] = []

    def take(self, code: Any) -> list[Any]:
        """Pop the arguments of an operation: a fixed number, or all above the last mark and some below it."""
        wanted, begin = code.stack_before, len(self.values) - len(code.stack_before)
        if pickletools.markobject in wanted:
            begin = self.marks.pop() - wanted.index(pickletools.markobject)
        elif code.name == "POP" and self.marks and self.marks[-1] == len(self.values):
            self.marks.pop()
            begin = len(self.values)
        if begin < (self.marks[-1] if self.marks else 0):
            raise IndexError
        taken = self.values[begin:]
        del self.values[begin:]
        return taken


def _follow(stack: _Stack, code: Any, argument: Any) -> None:
    taken = stack.take(code)
    if code.name in ("SETITEM", "SETITEMS"):
        if any(key != _KEY for key in taken[1::2]):
            raise ValueError("it holds tables whose keys are neither names nor small numbers")
        stack.values.append(taken[0])
        return
    parts = 1 + sum(part if isinstance(part, int) else 1 for part in taken)
    if parts > MOST_PARTS:
        raise ValueError("its values are nested too deeply")
    is_name = isinstance(argument, str) and "UNICODE" in code.name
    is_number = isinstance(argument, int) and 0 <= argument < LARGEST_KEY and code.name.startswith("BININT")
    stack.values += [_KEY if is_name or is_number else parts] * len(code.stack_after)
