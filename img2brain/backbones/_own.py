"""Networks of one's own: functions of a file or a module that build one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import nn
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms._presets import ImageClassification

from img2brain.backbones._preprocessing import Preprocessing
from img2brain.backbones._random import filled_by
from img2brain.backbones._trace import in_short
from img2brain.backbones.base import Library
from img2brain.errors import FeatureError, Img2BrainError, UnknownComponentError

_BY_NAME = {"resize224": Preprocessing(resize=(224, 224)), "imagenet": Preprocessing(resize=(256,), crop=224)}
_TRANSFORMS = (transforms.Compose, v2.Compose, ImageClassification)
_PLAIN = ("ToTensor", "PILToTensor", "ToImage", "ToPureTensor", "ConvertImageDtype", "ToDtype", "RGB")
_ATTRIBUTE = "preprocessing"


class Factories(Library):
    """The functions and classes of a file or module that build networks, named ``FILE.py:NAME``.

    A function takes no arguments and returns a `torch.nn.Module`. Its preprocessing, or that of the network, is the
    attribute ``preprocessing``: a transform of torchvision's, a `Preprocessing`, or one of ours by name
    (``"resize224"``, ``"imagenet"``); by default ``"resize224"``. Its weights are ``random:SEED`` or a checkpoint: the
    function itself reads none.

    Parameters
    ----------
    module : module
        What the file holds.
    """

    lists_blocks = True

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    @property
    def names(self) -> tuple[str, ...]:
        """The public functions and classes of networks that are defined in it."""
        return tuple(name for name, found in vars(self._module).items() if self._builds(name, found))

    def holds(self, name: str) -> bool:
        """Tell whether there is something of this name that can be called."""
        return callable(getattr(self._module, name, None))

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        """Call the function."""
        network = self._factory(name)()
        if _is_preprocessing(getattr(network, _ATTRIBUTE, None)):
            delattr(network, _ATTRIBUTE)  # torchvision's transforms are modules, and no part of the network
        return cast(nn.Module, network)

    def preprocessing(self, name: str, weights: str | None) -> Preprocessing:
        """Read the attribute ``preprocessing`` of the function, or of the network."""
        factory = self._factory(name)
        found = getattr(factory, _ATTRIBUTE, None)
        if not _is_preprocessing(found):
            found = _attribute_of_network(factory, f"{Path(str(self._module.__file__)).name}:{name}")
        return as_preprocessing(found, name) if _is_preprocessing(found) else _BY_NAME["resize224"]

    def _factory(self, name: str) -> Callable[[], Any]:
        if not self.holds(name):
            raise UnknownComponentError("backbone", f"{self._module.__name__}:{name}", self.names)
        return cast(Callable[[], Any], getattr(self._module, name))

    def _builds(self, name: str, found: Any) -> bool:
        is_own = not name.startswith("_") and getattr(found, "__module__", None) == self._module.__name__
        return is_own and (inspect.isfunction(found) or (isinstance(found, type) and issubclass(found, nn.Module)))


def _attribute_of_network(factory: Callable[[], Any], name: str) -> Any:
    try:
        with filled_by(None):
            return getattr(factory(), _ATTRIBUTE, None)
    except Img2BrainError:
        raise
    except (Exception, SystemExit) as error:  # code of others raises anything, and may want to end the process
        raise FeatureError(f"{name} cannot be built: {in_short(error)}.") from error


def as_preprocessing(found: Any, name: str) -> Preprocessing:
    """Turn a transform of torchvision's, or a name, into a preprocessing.

    Raises
    ------
    FeatureError
        For a step that is none of resizing, cutting out the centre and normalising, and for pictures of no fixed size.
    """
    if isinstance(found, Preprocessing):
        return found
    if isinstance(found, str):
        if found not in _BY_NAME:
            raise FeatureError(f"The preprocessing of {name} must be one of {', '.join(_BY_NAME)}. Got {found!r}.")
        return _BY_NAME[found]
    if isinstance(found, ImageClassification):
        steps: list[Any] = [transforms.Resize(found.resize_size, found.interpolation)]
        steps += [transforms.CenterCrop(found.crop_size), transforms.Normalize(found.mean, found.std)]
        return as_preprocessing(transforms.Compose(steps), name)
    return _composed(found, name)


def _composed(found: Any, name: str) -> Preprocessing:
    settings: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    for step in _steps(found):
        kind = type(step).__name__
        if kind == "Resize" and not {"resize", "crop"} & settings.keys():
            settings |= {"resize": _sides(step.size), "interpolation": _filter(step.interpolation)}
        elif kind == "CenterCrop" and "crop" not in settings and len({*_sides(step.size)}) == 1:
            settings["crop"] = _sides(step.size)[0]
        elif kind == "Normalize":
            settings |= {"mean": tuple(map(float, step.mean)), "std": tuple(map(float, step.std))}
        elif kind not in _PLAIN:
            raise FeatureError(
                f"The preprocessing of {name} must resize, cut out a square centre and normalise, in this order. "
                f"Got {kind}."
            )
    if "resize" not in settings:
        raise FeatureError(f"The preprocessing of {name} must resize the pictures. It does not.")
    return Preprocessing(**settings)


def _filter(interpolation: Any) -> str:
    return str(getattr(interpolation, "value", interpolation))  # some releases name it by text


def _steps(found: Any) -> list[Any]:
    if isinstance(found, transforms.Compose | v2.Compose):
        return [step for item in found.transforms for step in _steps(item)]
    return [found]


def _sides(size: Any) -> tuple[int, ...]:
    return (int(size),) if isinstance(size, int) else tuple(map(int, size))


def _is_preprocessing(found: Any) -> bool:
    return isinstance(found, (str, Preprocessing, *_TRANSFORMS))
