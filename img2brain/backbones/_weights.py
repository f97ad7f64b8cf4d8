"""Weights as a person asks for them: a library's name, a seed, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from img2brain import plain
from img2brain.errors import WeightsError, did_you_mean

TRAINED = "trained"
UNTRAINED = "untrained"
TRAINED_FILE = "trained (file)"

_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".bin", ".tar")
_SUFFIXES_IN_FOLDERS = (".safetensors", *_SUFFIXES)
_RANDOM = "random:"


@dataclass(frozen=True)
class Weights:
    """A request for weights, understood.

    Attributes
    ----------
    text : str
        As asked for.
    trained : {"trained", "untrained", "trained (file)"}
        What the library or the person says; that of a file is the person's claim.
    library_name : str, optional
        The library's name of the weights.
    seed : int, optional
        Of random weights.
    path : pathlib.Path, optional
        Of a checkpoint file.
    part : str, optional
        Which of the state dicts of that file, where it holds several.
    """

    text: str
    trained: str
    library_name: str | None = None
    seed: int | None = None
    path: Path | None = None
    part: str | None = None

    @property
    def label(self) -> str:
        """What a saved model may tell: of a file its name, not the folders of a machine."""
        return labelled(self.path, self.part) if self.path else self.text


def parse_weights(name: str, text: str, known: Sequence[str]) -> Weights:
    """Understand the weights asked for the backbone `name`.

    Parameters
    ----------
    name : str
        The backbone, for the message.
    text : str
        One of `known`, ``random:SEED``, or a checkpoint file (one that exists, or ends with .pth, .pt, .safetensors,
        .ckpt, .bin or .tar), or ``FILE#PART``; or a folder with one such file, the one of safetensors where there is.
    known : sequence of str
        The library's own names.

    Raises
    ------
    WeightsError
        When it is none of these, or the file is absent.
    """
    if text in known:
        return Weights(text, TRAINED, library_name=text)
    if text.startswith(_RANDOM):
        return Weights(text, UNTRAINED, seed=_seed(text))
    try:
        path, part = _file(text)
    except ValueError as error:
        raise WeightsError(f"The weights of {name} cannot be a file: {error}.") from None
    if path.is_dir():
        path = _only_file(name, path)
    if path.is_file():
        return Weights(text, TRAINED_FILE, path=path, part=part)
    if path.suffix in _SUFFIXES:
        raise WeightsError(f"The weights of {name} must be a file that exists. Got {text!r}.")
    raise WeightsError(
        f"Unknown weights {text!r} of {name}. {did_you_mean(text, known)} Or 'random:SEED', or a checkpoint file."
    )


def labelled(path: Path, part: str | None) -> str:
    """Name a checkpoint file, and what is taken of it, without its folder."""
    return path.name if part is None else f"{path.name}#{part}"


def _only_file(name: str, folder: Path) -> Path:
    """Return the one file of weights in a folder: of the first kind of which there is any."""
    for suffix in _SUFFIXES_IN_FOLDERS:
        found = sorted(folder.glob(f"*{suffix}"))
        if len(found) > 1:
            raise WeightsError(
                f"The weights of {name} must be one file. {str(folder)!r} holds {found[0].name}, {found[1].name}: "
                "name one of them."
            )
        if found:
            return found[0]
    raise WeightsError(f"The weights of {name} must be a file that exists. {str(folder)!r} holds none.")


def _file(text: str) -> tuple[Path, str | None]:
    whole, (file, sharp, part) = plain.path_of(text), text.rpartition("#")
    return (whole, None) if not sharp or whole.is_file() else (plain.path_of(file), part)


def _seed(text: str) -> int:
    number = text.removeprefix(_RANDOM)
    if not (number.isascii() and number.isdigit() and len(number) <= 10 and int(number) < 2**32):
        raise WeightsError(
            f"The SEED of weights 'random:SEED' must be an integer from 0 to {2**32 - 1}. Got {number!r}."
        )
    return int(number)
