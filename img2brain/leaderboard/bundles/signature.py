"""Signatures of bundles by ``ssh-keygen -Y``, over the manifest, which names the digest of every file."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from img2brain.errors import DataError, SpecError, StoreError
from img2brain.leaderboard.bundles.contents import MANIFEST, SIGNATURE
from img2brain.leaderboard.bundles.opening import Bundle

NAMESPACE = "img2brain"
_PATIENCE_S = 120


def sign(folder: Path, key: Path) -> None:
    """Sign the manifest of a bundle in a folder with an SSH key; its passphrase is asked for by ssh-keygen.

    Raises
    ------
    SpecError
        If the key is not there or cannot sign.
    StoreError
        If there is no ssh-keygen.
    """
    if not key.is_file():
        raise SpecError(f"The key to sign with must be a file. There is none at {key}.")
    (folder / SIGNATURE).unlink(missing_ok=True)
    ended = _ask("sign", "-f", str(key), "-n", NAMESPACE, str(folder / MANIFEST))
    if ended.returncode or not (folder / SIGNATURE).is_file():
        raise SpecError(f"The key {key} must sign the bundle. ssh-keygen says: {_said(ended)}.")


def signer_of(bundle: Bundle, signers: Path) -> str:
    """Return who signed a bundle, of those that a file of allowed signers names.

    Raises
    ------
    DataError
        If it is not signed by one of them.
    SpecError
        If there is no such file.
    StoreError
        If there is no ssh-keygen.
    """
    if not signers.is_file():
        raise SpecError(f"The allowed signers must be in a file. There is none at {signers}.")
    if not bundle.signed:
        raise DataError(f"{bundle.path} must be signed by one that {signers} names. It is not signed.")
    signature = str(bundle.files[SIGNATURE])
    ended = _ask("find-principals", "-s", signature, "-f", str(signers))
    names = ended.stdout.decode("utf-8", "replace").split()
    if ended.returncode or not names:
        raise DataError(f"{bundle.path} must be signed by one that {signers} names. It is signed by another.")
    manifest = bundle.files[MANIFEST].read_bytes()
    ended = _ask("verify", "-f", str(signers), "-I", names[0], "-n", NAMESPACE, "-s", signature, given=manifest)
    if ended.returncode:
        raise DataError(f"{bundle.path} must be what {names[0]} signed. ssh-keygen says: {_said(ended)}.")
    return names[0]


def _ask(*words: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command: Sequence[str] = ("ssh-keygen", "-Y", *words)
    try:
        if given is None:
            return subprocess.run(command, capture_output=True, check=False, timeout=_PATIENCE_S)
        return subprocess.run(command, input=given, capture_output=True, check=False, timeout=_PATIENCE_S)
    except FileNotFoundError:
        raise StoreError("Signatures need the program ssh-keygen, of OpenSSH. It is not installed.") from None
    except subprocess.TimeoutExpired:
        raise StoreError(f"ssh-keygen must answer within {_PATIENCE_S} s. It did not.") from None


def _said(ended: subprocess.CompletedProcess[bytes]) -> str:
    text = (ended.stderr or ended.stdout).decode("utf-8", "replace")
    line = next(iter(text.strip().splitlines()), "nothing").rstrip(".")
    return "".join(char for char in line if char.isprintable())
