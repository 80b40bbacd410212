"""Reading and writing safetensors files with NumPy only.

A safetensors file is: the header length (unsigned 64-bit little endian), a JSON
header mapping each tensor name to its dtype, shape and byte range, and the raw
little-endian data.  A model is either one `model.safetensors` or several shards
listed by `model.safetensors.index.json`.  The element types supported here are
F32, F16 and BF16; NumPy has no bfloat16, so BF16 values travel as uint16 bit
patterns inside this module and as float32 outside of it.
"""

import json
import os
import struct

import numpy as np

ITEM_SIZE = {"F32": 4, "F16": 2, "BF16": 2}
STORAGE = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def float_to_bf16_bits(values):
    """Round float32 values to bfloat16 (nearest, ties to even); returns uint16 bits.

    Finite values only: a NaN payload could be rounded into an infinity.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype(np.uint16)


def bf16_bits_to_float(bits):
    """Widen bfloat16 bit patterns (uint16) to float32; always exact."""
    return (np.asarray(bits, dtype=np.uint32) << 16).view(np.float32)


def encode(values, dtype):
    """Convert float values to the storage array of a safetensors dtype."""
    if dtype == "BF16":
        return float_to_bf16_bits(values)
    return np.ascontiguousarray(values, dtype=STORAGE[dtype])


def decode(stored, dtype):
    """Widen a storage array of a safetensors dtype to float32."""
    if dtype == "BF16":
        return bf16_bits_to_float(stored)
    return np.asarray(stored).astype(np.float32)


def element_count(shape):
    count = 1
    for extent in shape:
        count *= extent
    return count


def write_stream(path, entries, metadata=None):
    """Write a file from `entries`, a list of (name, dtype, shape, producer).

    `producer()` yields the tensor's storage arrays in order; a tensor is produced
    only when its turn comes, so a file larger than memory can be written.  Wider
    element types go first, which keeps every tensor aligned to its element size.
    """
    entries = sorted(entries, key=lambda entry: -ITEM_SIZE[entry[1]])
    header = {"__metadata__": metadata or {"format": "pt"}}
    offset = 0
    for name, dtype, shape, _ in entries:
        end = offset + element_count(shape) * ITEM_SIZE[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)))
        out.write(text)
        start = out.tell()
        for name, _, _, producer in entries:
            for block in producer():
                out.write(np.ascontiguousarray(block).data)
            if out.tell() - start != header[name]["data_offsets"][1]:
                raise ValueError(f"{name}: the data does not match the shape")


def write_arrays(path, arrays, metadata=None):
    """Write `arrays`, a dict name -> (dtype, float array), to one file."""

    def producer(values, dtype):
        return lambda: [encode(values, dtype)]

    entries = [(name, dtype, np.shape(values), producer(values, dtype))
               for name, (dtype, values) in arrays.items()]
    write_stream(path, entries, metadata)


def write_model(folder, entries, shards=1):
    """Write model weights into `folder`, as one file or as `shards` shards plus index.

    Shards are cut by size in the order of `entries`, so a layer may be split
    between two files, as happens in published checkpoints.
    """
    if shards == 1:
        write_stream(os.path.join(folder, SINGLE_FILE), entries)
        return
    total = sum(element_count(shape) * ITEM_SIZE[dtype] for _, dtype, shape, _ in entries)
    groups = [[] for _ in range(shards)]
    done = 0
    for entry in entries:
        groups[min(shards - 1, done * shards // total)].append(entry)
        done += element_count(entry[2]) * ITEM_SIZE[entry[1]]
    if not all(groups):
        raise ValueError(f"{shards} shards are too many for these tensors")
    weight_map = {}
    for number, group in enumerate(groups, 1):
        name = f"model-{number:05d}-of-{shards:05d}.safetensors"
        write_stream(os.path.join(folder, name), group)
        weight_map.update((entry[0], name) for entry in group)
    with open(os.path.join(folder, INDEX_FILE), "w") as out:
        json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, out, indent=2)
        out.write("\n")


class File:
    """One safetensors file, mapped into memory."""

    def __init__(self, path):
        with open(path, "rb") as source:
            (length,) = struct.unpack("<Q", source.read(8))
            self.header = json.loads(source.read(length))
        self.metadata = self.header.pop("__metadata__", {})
        self.data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)

    def names(self):
        return list(self.header)

    def dtype(self, name):
        return self.header[name]["dtype"]

    def read(self, name):
        """The tensor as float32, whatever its storage type."""
        entry = self.header[name]
        begin, end = entry["data_offsets"]
        stored = np.frombuffer(self.data[begin:end].tobytes(), dtype=STORAGE[entry["dtype"]])
        return decode(stored, entry["dtype"]).reshape(entry["shape"])


class Model:
    """The weights of a model folder, single-file or sharded."""

    def __init__(self, folder):
        index = os.path.join(folder, INDEX_FILE)
        if os.path.exists(index):
            with open(index) as source:
                weight_map = json.load(source)["weight_map"]
            files = {name: File(os.path.join(folder, name)) for name in set(weight_map.values())}
            self.where = {name: files[file] for name, file in weight_map.items()}
        else:
            single = File(os.path.join(folder, SINGLE_FILE))
            self.where = {name: single for name in single.names()}

    def __contains__(self, name):
        return name in self.where

    def dtype(self, name):
        return self.where[name].dtype(name)

    def read(self, name):
        return self.where[name].read(name)
