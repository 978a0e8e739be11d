"""DVID's protobuf messages, built from descriptors at import: no generated code and no compiler.

Source: DVID HTTP API; the numbers and types of fields are those of its protobuf definitions.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from vzarr.errors import InvalidInputError

_PACKAGE = "vzarr.dvid"
_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "uint64": _Field.TYPE_UINT64,
    "uint32": _Field.TYPE_UINT32,
}

# Message -> its fields in order of their numbers, which start at 1; a type in square brackets is repeated,
# two types in curly ones are the keys and values of a map.
_MESSAGES: dict[str, dict[str, str]] = {
    "KeyValue": {"key": "string", "value": "bytes"},
    "KeyValues": {"kvs": "[KeyValue]"},
    "KeyRange": {"key": "string", "byte_start": "uint64", "byte_end": "uint64"},
    "Keys": {"keys": "[string]", "key_ranges": "[KeyRange]"},
    "SVCount": {"counts": "{uint64 uint32}", "surface_mutid": "uint64"},
    "LabelIndex": {
        "blocks": "{uint64 SVCount}",
        "label": "uint64",
        "last_mutid": "uint64",
        "last_mod_time": "string",
        "last_mod_user": "string",
        "last_mod_app": "string",
    },
    "LabelIndices": {"indices": "[LabelIndex]"},
    "MappingOp": {"mutid": "uint64", "mapped": "uint64", "original": "[uint64]"},
    "MappingOps": {"mappings": "[MappingOp]"},
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="vzarr/dvid.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            _add_field(message, name, field, number, kind)
    return file


def _add_field(message: Any, owner: str, name: str, number: int, kind: str) -> None:
    """Declare one field; a map is a repeated message, nested and marked as the compiler does it."""
    label = _Field.LABEL_REPEATED if kind[0] in "[{" else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    inner = kind.strip("[]{}")
    if kind.startswith("{"):
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        for n, (part, part_kind) in enumerate(zip(("key", "value"), inner.split(), strict=True), 1):
            _add_field(entry, "", part, n, part_kind)
        inner = f"{owner}.{entry.name}"
    if inner in _TYPES:
        field.type = _TYPES[inner]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{inner}"


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _classes()
KeyValue = _CLASSES["KeyValue"]
KeyValues = _CLASSES["KeyValues"]
Keys = _CLASSES["Keys"]
LabelIndex = _CLASSES["LabelIndex"]
LabelIndices = _CLASSES["LabelIndices"]
MappingOps = _CLASSES["MappingOps"]


def parse(message: Any, content: bytes) -> Any:
    """Read a message of class `message` from its bytes.

    Raises
    ------
    InvalidInputError
        If the bytes are no such message.
    """
    try:
        return message.FromString(content)
    except DecodeError as error:
        raise InvalidInputError(f"the body should be a protobuf message {message.DESCRIPTOR.name}: {error}") from error
