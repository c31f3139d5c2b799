"""Find HDF5 files (NetCDF-4) whose pixels would come from other files: a file of a stranger could show any file here.

There are three ways, all followed silently by the library: a list of external files that hold a dataset's bytes, a
virtual dataset, and a link to an object of another file. Each leaves marks in the file's bytes that are looked for
here, without opening it, as the format's specification lays them out [1]_. These structures are never compressed, but
for links in a heap with filters; such a heap is refused as well.

References
----------
.. [1] The HDF Group. HDF5 File Format Specification Version 3.0. https://support.hdfgroup.org/documentation/hdf5/
"""

import re
from collections.abc import Iterator
from mmap import mmap

MAGIC = b"\x89HDF\r\n\x1a\n"
MANY = 20_000  # heaps; a file with more is not looked through but refused
_LINK = re.compile(rb"\x01[\x08-\x0f\x18-\x1f]\x40", re.DOTALL)  # version, flags with a link type, external


def refers_elsewhere(whole: mmap) -> bool:
    """Tell whether an HDF5 file takes something from another file, or hides whether it does."""
    width = whole[13] if whole[8] < 2 else whole[9]  # bytes of an address, by the superblock
    if width not in (2, 4, 8):
        return True
    if any(sum(1 for _ in _places(whole, mark)) > MANY for mark in (b"HEAP", b"GCOL")):
        return True
    return (
        any(_is_file_list(whole, place) for place in _references(whole, b"HEAP", width))
        or any(_is_virtual(whole, place) for place in _references(whole, b"GCOL", width))
        or any(_is_external(whole, match.start()) for match in _LINK.finditer(whole))
        or any(whole[place + 7 : place + 9] != b"\0\0" for place in _places(whole, b"FRHP"))
    )


def _places(whole: mmap, text: bytes) -> Iterator[int]:
    place = whole.find(text)
    while place >= 0:
        yield place
        place = whole.find(text, place + 1)


def _references(whole: mmap, signature: bytes, width: int) -> Iterator[int]:
    """Places where the address of a heap of this kind is written."""
    heaps = {place.to_bytes(8, "little")[:width] for place in _places(whole, signature)}
    if heaps:
        for match in re.finditer(b"|".join(map(re.escape, sorted(heaps))), whole):
            yield match.start()


def _is_file_list(whole: mmap, heap: int) -> bool:
    """A message of type 7, version 1, four numbers of two bytes, then the heap with the files' names."""
    body = heap - 8
    return body >= 8 and whole[body] == 1 and _is_message(whole, body, 7)


def _is_virtual(whole: mmap, heap: int) -> bool:
    """A message of type 8, version 4 or 5, class 3, then the heap with the other files' names."""
    body = heap - 2
    return body >= 8 and whole[body] in (4, 5) and whole[body + 1] == 3 and _is_message(whole, body, 8)


def _is_message(whole: mmap, body: int, kind: int) -> bool:
    """Whether what lies before says that here begins a message of this type, in any version of object headers."""
    return whole[body - 8 : body - 6] == bytes((kind, 0)) or kind in (whole[body - 4], whole[body - 6])


def _is_external(whole: mmap, start: int) -> bool:
    """Parse a link message: a name, then the other file's name and the object's, each ended by a zero."""
    flags = whole[start + 1]
    at = start + 3 + (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
    wide = 1 << (flags & 3)
    length = int.from_bytes(whole[at : at + wide], "little")
    at += wide + length
    size = int.from_bytes(whole[at : at + 2], "little")
    told = whole[at + 2 : at + 2 + size]
    if not 0 < length < 65_536 or len(told) != size or size < 4 or told[0] != 0 or told[-1] != 0:
        return False
    file, ended, _ = told[1:].partition(b"\0")
    return bool(file) and bool(ended) and all(byte >= 32 for byte in file)
