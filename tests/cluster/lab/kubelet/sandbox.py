# SPDX-License-Identifier: Apache-2.0
"""Becomes a container's program in a file system of its own, in which its volumes are mounted.

Run as a script with the standard library alone: `sandbox.py MOUNTS COMMAND...`, where MOUNTS is a
JSON list of source, target and read-only. The mount namespace makes a pod's files stand where its
manifest says, so that programs read `/var/run/secrets` as they would in a cluster.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_RDONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 4096, 16384, 1 << 18

_ROOT = Path("/")
_STAGE = Path("/mnt")
"""A folder that every machine has and that none of our programs needs."""

_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: Path | str, target: Path | str, kind: str = "", flags: int = 0) -> None:
    texts = (str(source).encode(), str(target).encode(), kind.encode())
    if _libc.mount(*texts, ctypes.c_ulong(flags), None):
        raise OSError(ctypes.get_errno(), f"mounting {source} at {target}")


def _shadow(folder: Path) -> None:
    """Put a new folder over an existing one, with the same entries in it: now it can grow."""
    names = [entry.name for entry in folder.iterdir()]
    keep = Path(f"/proc/self/fd/{os.open(folder, os.O_PATH)}")
    # Nothing can be mounted over the root: it is made anew beside it, and entered.
    place = _STAGE if folder == _ROOT else folder
    _mount("lab", place, "tmpfs")
    for name in names:
        old, new = keep / name, place / name
        if old.is_symlink():
            new.symlink_to(old.readlink())
        elif old.is_dir():
            new.mkdir()
            _mount(old, new, flags=_BIND | _RECURSIVE)
        elif old.exists():
            new.touch()
            _mount(old, new, flags=_BIND)
    if folder == _ROOT:
        os.chroot(place)
        os.chdir("/")


def _place(source: Path, target: Path) -> None:
    """Make sure that there is something at `target` to mount over."""
    if target.exists():
        return
    folder = target.parent.resolve()
    while not folder.is_dir():
        folder = folder.parent
    if folder not in _ours:
        _shadow(folder)
        _ours.append(folder)
    if source.is_dir():
        target.mkdir(parents=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


_ours: list[Path] = []


def main() -> None:
    """Mount, and become the program."""
    if _libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "no mount namespace")
    _mount("lab", "/", flags=_RECURSIVE | _PRIVATE)
    for source, target, read_only in json.loads(sys.argv[1]):
        _place(Path(source), Path(target))
        _mount(source, target, flags=_BIND | _RECURSIVE)
        if read_only:
            _mount(source, target, flags=_BIND | _REMOUNT | _RDONLY)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
