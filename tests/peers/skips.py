"""What of the peers' suites cannot apply to versions, by name and with the reason, and what waits for `make test-all`.

The suites' own skips (of formats, or of libraries that are not installed) are not repeated here.
"""

from __future__ import annotations

CANNOT_APPLY = {
    "test_state_machines.py::test_any_keys[files-0]": (
        "an open root on files is its folder: no key can be both a file and a folder (zarr skips its LocalStore too)"
    ),
}
"""Case, as pytest names it below this folder -> why it cannot hold.

One case of fsspec's mappers holds as it does for fsspec's memory file system: ``"/a"`` is not the key ``"a"``.
"""

XARRAY_DAILY = ("TestInherited", "3")
"""Class and Zarr format of the xarray cases that `make test` runs; the others take half a minute each."""


def waits(case: str) -> bool:
    """Whether a case runs in `make test-all` only."""
    file, _, name = case.partition("::")
    if file != "test_xarray.py":
        return False
    cls, zarr_format = XARRAY_DAILY
    daily = name.startswith(f"{cls}::") and f"[{zarr_format}" in name
    return not daily or ("test_write_region[" in name and "None" not in name)
