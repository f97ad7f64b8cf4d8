"""Image networks of Hugging Face's transformers, from a hub or from a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from img2brain import digest, plain
from img2brain._quiet import ignored
from img2brain.backbones._checkpoint import NOT_THERE
from img2brain.backbones._optional import imported, version_of
from img2brain.backbones._preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from img2brain.backbones._trace import in_short
from img2brain.backbones._weights import Weights
from img2brain.backbones._wrapping import head_of
from img2brain.backbones.base import Library
from img2brain.errors import FeatureError, Img2BrainError, ModelError, SpecError, UnavailableError, WeightsError

_DEFAULT = "DEFAULT"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB = "https://huggingface.co/"
_KNOWN = """
facebook/convnext-{tiny,small,base,large}-224
facebook/convnextv2-{atto-1k-224,femto-1k-224,pico-1k-224,nano-1k-224,tiny-1k-224,base-1k-224,large-1k-224}
facebook/deit-{tiny,small,base}-patch16-224
facebook/dinov2-{small,base,large,giant,with-registers-small,with-registers-base,with-registers-large}
facebook/dinov3-{vits16,vitb16,vitl16,convnext-tiny,convnext-small,convnext-base}-pretrain-lvd1689m
facebook/vit-mae-{base,large,huge}
google/siglip-{base-patch16-224,base-patch16-384,large-patch16-256,so400m-patch14-384}
google/vit-{base-patch16-224,base-patch16-224-in21k,large-patch16-224,huge-patch14-224-in21k}
microsoft/beit-{base-patch16-224,base-patch16-224-pt22k,large-patch16-224}
microsoft/resnet-{18,26,34,50,101,152}
microsoft/swin-{tiny-patch4-window7-224,small-patch4-window7-224,base-patch4-window7-224}
openai/clip-vit-{base-patch32,base-patch16,large-patch14,large-patch14-336}
"""
_FILES = ("_name_or_path", "architectures", "auto_map", "dtype", "id2label", "label2id", "transformers_version")
_CODE = ("attn_implementation", "_attn_implementation", "auto_map", "quantization_config")  # may ask a hub for code
_TOWERS = {"clip": "CLIPVisionModelWithProjection", "metaclip_2": "MetaClip2VisionModelWithProjection"}
_WITH_HEAD = ("ForImageClassification", "VisionModelWithProjection")
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_SETTINGS = ("size", "crop_size", "image_mean", "image_std", "crop_pct")
_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_SCALES = {"clip": (_CLIP_MEAN, _CLIP_STD), "siglip": (_HALF, _HALF), "vit": (_HALF, _HALF)}
_OF_CLASS = re.compile(r"(?:^|\.)(?:cls_token|class_embedding|distillation_token)$")


class Transformers(Library):
    """Image networks of transformers, named ``transformers:ORG/NAME`` as on the hub, or ``transformers:FOLDER``.

    Notes
    -----
    A folder is one that ``save_pretrained`` wrote; from there on it is called by its own name, without those around
    it. The configuration decides what is built: the classifier, where the weights are those of one; of a network of
    pictures and texts the part that sees; otherwise the bare network. The one name of weights is ``DEFAULT``: of
    ``model.safetensors``, in the folder or the library's cache. A masked autoencoder sees the whole picture, nothing
    masked, its patches in order.
    """

    package = "transformers"
    version = version_of(package)
    lists_blocks = True
    in_full = True

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}
        self._config = lru_cache(maxsize=64)(self._read_config)
        self._revision = lru_cache(maxsize=64)(self._find_revision)

    @property
    def names(self) -> tuple[str, ...]:
        """Some networks of the hub, and the folders in use; any other of the hub may be named as well."""
        return tuple(sorted({*_hub_names(), *self._folders}))

    def holds(self, name: str) -> bool:
        """Tell whether a hub may have a network of this name; whether it has is known when it is asked for."""
        return _NAME.fullmatch(name) is not None

    def known(self, name: str, folder: Path | None) -> str:
        """Make a folder known, and return its own name."""
        try:
            path = plain.path_of(name, folder or Path.cwd())
        except ValueError as error:
            raise SpecError(f"The network 'transformers:{name}' cannot be a folder: {error}.") from None
        if not (path / "config.json").is_file():
            if path.is_dir() or name.startswith((".", "/", "~")):
                raise SpecError(f"The folder of a network of transformers must hold a config.json. {name!r} does not.")
            return name
        if not _NAME.fullmatch(path.resolve().name):
            raise SpecError(f"The folder {name!r} must have a name of letters, digits, '.', '_' and '-'.")
        self._require_own_name(path.resolve())
        self._config.cache_clear()
        self._revision.cache_clear()
        self._folders[path.resolve().name] = path.resolve()
        return path.resolve().name

    def _require_own_name(self, path: Path) -> None:
        """Refuse a folder that is called as another one, which stands for something else."""
        other = self._folders.get(path.name, path)
        if other != path and other.is_dir() and _content_of(other) != _content_of(path):
            raise SpecError(
                f"Folders of networks must have names of their own, as they are called by these. Got '{other}' and "
                f"'{path}': rename one of them."
            )

    def content(self, name: str) -> str:
        """Digest the files of a folder, or name the revision that the library's cache has of a network of the hub."""
        return _content_of(self._folders[name]) if name in self._folders else self._revision(name) or ""

    def weight_names(self, name: str) -> tuple[str, ...]:
        """Name the weights: there is one set of them."""
        return (_DEFAULT,)

    def options(self, name: str, weights: Weights, keys: Collection[str]) -> dict[str, Any]:
        """Choose what is built: the class of the network, and its configuration."""
        whole = self._config(name)
        config = getattr(whole, "vision_config", whole)
        if (projection := getattr(whole, "projection_dim", None)) and config is not whole:
            config.projection_dim = projection
        settings = {key: value for key, value in config.to_diff_dict().items() if key not in _FILES}
        settings |= {"model_type": config.model_type}
        settings |= {"num_labels": config.num_labels} if config.num_labels != 2 else {}
        settings |= {"mask_ratio": 0.0} if hasattr(config, "mask_ratio") else {}
        return {"architecture": self._architecture(whole, config), "config": json.loads(json.dumps(settings))}

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        """Construct a network without weights."""
        architecture, config = self._understood(options)
        with ignored():
            return _in_order(architecture._from_config(config, dtype=torch.float32))

    def pretrained(self, name: str, weights: str, options: Mapping[str, Any]) -> nn.Module:
        """Read a network with its weights from its folder, or from the hub by way of the library's cache."""
        architecture, config = self._understood(options)
        try:
            with ignored(), self._silent():
                network, told = architecture.from_pretrained(
                    **self._place(name),
                    config=config,
                    use_safetensors=True,
                    trust_remote_code=False,
                    dtype=torch.float32,
                    output_loading_info=True,
                )
        except Exception as error:  # the network of this machine, the hub and the file may fail in any way
            raise self._unavailable(name, error) from error
        return _in_order(_without_absent(network, told, f"transformers:{name}"))

    def preprocessing(self, name: str, weights: str | None) -> Preprocessing:
        """Read what the image processor does; where there is none, what is usual for such a network."""
        auto = imported("transformers", "transformers").AutoImageProcessor
        try:
            with ignored(), self._silent():
                found = auto.from_pretrained(**self._place(name), trust_remote_code=False)
        except Exception:  # there is none, or no hub
            return _usual(self._config(name))
        return preprocessing_of(found, f"transformers:{name}")

    def n_prefix_tokens(self, name: str, network: nn.Module) -> int | None:
        """Count the class token, that of distillation and the registers."""
        n_tokens = sum(bool(_OF_CLASS.search(path)) for path, _ in network.named_parameters())
        return n_tokens + (getattr(network.config, "num_register_tokens", 0) or 0)

    def _read_config(self, name: str) -> Any:
        try:
            with ignored(), self._silent():
                return imported("transformers", "transformers").AutoConfig.from_pretrained(
                    **self._place(name), trust_remote_code=False
                )
        except Img2BrainError:
            raise
        except Exception as error:  # no internet, no such name, a damaged file
            raise self._unavailable(name, error) from error

    def _place(self, name: str) -> dict[str, Any]:
        """Say where a network is: its folder, or its name on the hub with the one revision that all is read of."""
        folder = self._folders.get(name)
        where = {} if folder or (revision := self._revision(name)) is None else {"revision": revision}
        return {"pretrained_model_name_or_path": folder or name, **where}

    def _find_revision(self, name: str) -> str | None:
        """Return the revision that the hub, or else the library's cache, has of a network; None where neither has it.

        The library keeps the files of a revision in a folder of this name.
        """
        find = imported("transformers.utils", "transformers").cached_file
        try:
            with ignored(), self._silent():
                return Path(find(name, "config.json")).parent.name
        except Exception:  # no internet, no such name: who reads the configuration is told
            return None

    def _unavailable(self, name: str, error: Exception) -> WeightsError:
        if folder := self._folders.get(name):
            reason = " ".join(str(error).split())[:200].rstrip(".")
            return WeightsError(
                f"The folder {folder.name!r} must hold a network of transformers with config.json and "
                f"model.safetensors. {type(error).__name__}: {reason}."
            )
        put = ", with config.json and model.safetensors, and name its folder, 'transformers:FOLDER'"
        return UnavailableError.told(f"transformers:{name}", error, f"{_HUB}{name}", put)

    def _architecture(self, whole: Any, config: Any) -> str:
        """Name the class that the weights are of, where it has a head of its own; otherwise the bare one."""
        known = imported("transformers", "transformers")
        told = next(iter(whole.architectures or ()), "")
        if config is not whole:
            told = _TOWERS.get(whole.model_type, "")
        if told.endswith(_WITH_HEAD) and hasattr(known, told):
            return told
        try:
            return cast(str, known.AutoModel._model_mapping[type(config)].__name__)
        except KeyError:
            raise FeatureError(f"A network of the type {config.model_type!r} must see pictures. It does not.") from None

    def _understood(self, options: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return the class and the configuration that options name; they may come from a saved model of others."""
        known = imported("transformers", "transformers")
        if options.keys() != {"architecture", "config"} or not isinstance(options["config"], Mapping):
            raise ModelError(f"The options of a network must be 'architecture' and 'config'. Got {sorted(options)}.")
        architecture = getattr(known, str(options["architecture"]), None)
        settings = {key: value for key, value in options["config"].items() if key not in _CODE}
        if not (isinstance(architecture, type) and issubclass(architecture, known.PreTrainedModel)):
            raise ModelError(f"transformers {self.version} has no network {options['architecture']!r}.")
        try:
            return architecture, known.AutoConfig.for_model(settings.pop("model_type", ""), **settings)
        except Exception as error:  # settings of others
            raise ModelError(
                f"The configuration of a {architecture.__name__} cannot be read: {in_short(error)}."
            ) from error

    @contextmanager
    def _silent(self) -> Iterator[None]:
        """Let the library tell errors only, and show no progress of its own."""
        told = imported("transformers.utils.logging", "transformers")
        level, shows = told.get_verbosity(), told.is_progress_bar_enabled()
        told.set_verbosity(told.CRITICAL)
        told.disable_progress_bar()
        try:
            yield
        finally:
            told.set_verbosity(level)
            if shows:
                told.enable_progress_bar()


def _content_of(folder: Path) -> str:
    """Digest the configuration and the weights in a folder."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors") and path.is_file())
    return digest.of_value({path.name: digest.of_file(path) for path in files})


def preprocessing_of(processor: Any, name: str) -> Preprocessing:
    """Turn an image processor into our preprocessing.

    Raises
    ------
    FeatureError
        For one that gives pictures of no fixed size.
    """
    told: dict[str, Any] = {key: getattr(processor, key, None) for key in _SETTINGS}
    size, cut = dict(told["size"] or {}), dict(told["crop_size"] or {}) if processor.do_center_crop else {}
    size = {key: value for key, value in size.items() if value is not None}
    cut = {key: value for key, value in cut.items() if value is not None}
    is_scaled = getattr(processor, "do_normalize", True) and told["image_mean"] is not None
    shown = _resized(size, cut, told["crop_pct"])
    if shown is None or not getattr(processor, "do_resize", True):
        raise FeatureError(f"The image processor of {name} must give pictures of one size. Got {size}, cropped {cut}.")
    return Preprocessing(
        resize=shown[0],
        crop=shown[1],
        interpolation=_FILTERS[int(getattr(processor, "resample", None) or 3)],
        mean=tuple(told["image_mean"]) if is_scaled else (0.0, 0.0, 0.0),
        std=tuple(told["image_std"]) if is_scaled else (1.0, 1.0, 1.0),
    )


def _resized(
    size: Mapping[str, int], cut: Mapping[str, int], crop_pct: float | None
) -> tuple[tuple[int, ...], int | None] | None:
    """Return the size that a picture is brought to, and what is cut out of it; None where that is not fixed."""
    height, width = cut.get("height"), cut.get("width")
    crop = height if height is not None and height == width else None
    if size.keys() == {"height", "width"}:
        return (size["height"], size["width"]), crop
    if "shortest_edge" not in size:
        return None
    side = size["shortest_edge"]
    if crop_pct is not None:  # ConvNeXt's: small pictures are cut out of larger ones
        return ((side, side), None) if side >= 384 else ((int(side / crop_pct),), side)
    return ((side,), crop) if crop is not None else None


def _usual(config: Any) -> Preprocessing:
    config = getattr(config, "vision_config", config)
    side = getattr(config, "image_size", None) or 224
    kind = str(config.model_type).partition("_")[0]
    mean, std = _SCALES.get(kind, (IMAGENET_MEAN, IMAGENET_STD))
    resize = tuple(side) if isinstance(side, list | tuple) else (side, side)
    return Preprocessing(resize=resize, interpolation="bicubic", mean=mean, std=std)


def _without_absent(network: nn.Module, told: Mapping[str, Any], name: str) -> nn.Module:
    """Refuse weights that lack more than the head; mark what the head lacks as not there."""
    own, lacking = network.state_dict(), [str(key) for key in told["missing_keys"]]
    if wrong := [str(key) for key in told.get("mismatched_keys", ())]:
        raise WeightsError(f"The weights of {name} do not fit it: {len(wrong)} of another shape: {wrong[0]}.")
    head = head_of(own)
    if others := [key for key in lacking if not (head and key.startswith(head))]:
        raise WeightsError(f"The weights of {name} do not fit it: {len(others)} missing: {', '.join(others[:3])}.")
    for key in lacking:
        own[key].fill_(NOT_THERE)
    return network


def _in_order(network: Any) -> nn.Module:
    """Let a masked autoencoder see the patches in order: what it masks is chosen by numbers that it may be given."""
    if hasattr(network.config, "mask_ratio"):
        network.register_forward_pre_hook(_ordered, with_kwargs=True)
    return cast(nn.Module, network)


def _ordered(network: Any, inputs: tuple[Any, ...], settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    batch = inputs[0]
    n_patches = (batch.shape[-2] // network.config.patch_size) * (batch.shape[-1] // network.config.patch_size)
    noise = torch.arange(n_patches, dtype=torch.float32, device=batch.device).expand(len(batch), -1)
    return inputs, {"noise": noise, **settings}


def _hub_names() -> Iterator[str]:
    for line in _KNOWN.split():
        before, _, rest = line.partition("{")
        among, _, after = rest.partition("}")
        yield from (f"{before}{item}{after}" for item in among.split(","))


COMPONENT: Library = Transformers()
