"""Specs: what a person asks for, as frozen plain data.

A study file (TOML) becomes a `StudySpec`; the search turns it into one `TrialSpec` after another. An unknown key, a
name that no catalog holds and a value out of range are refused here, before any work starts. Relative paths in a
study file are relative to that file.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from img2brain import digest, plain
from img2brain.catalog import LAYOUTS, LIBRARIES, METRICS, REGRESSORS, Catalog
from img2brain.errors import SpecError
from img2brain.faults import describe

DEVICE_PATTERN = r"^(auto|cpu|cuda(:\d{1,3})?)$"
_CHECKPOINT = re.compile(r"\.(pth|pt|safetensors|ckpt|bin|tar)(#[^/]*)?$")  # "FILE#PART" names a state dict in it
PREDECESSOR = "img2brain-2023"
_OF_LAYOUT = r"[A-Za-z0-9_-]+:[A-Za-z0-9_.+-]+"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
NO_POOLING = "none"
GIVEN = "given"  # the name that stands in for a network where features came with the data
PCA: Final = "pca"  # what reduces features: principal components, or sparse random projections
SRP: Final = "srp"
ALL: Final = "all"  # numbers of components: every one there is, and the Johnson-Lindenstrauss size
AUTO: Final = "auto"
_POOLING = re.compile(r"none|mean|max|cls|patches|tokens|grid:[1-9]\d?")
_GREY = "#808080"
_COLOUR = re.compile(r"grey|#[0-9a-f]{6}")
_NAME = "start with a letter or digit, and hold letters, digits, '.', '_' and '-' only"
_ADDRESS = "be such as 'tcp://HOST:8786'"
_WORD, _NO_SPACE = r"^[^\s'\"]*$", "hold neither blanks nor quotes"
_TIME = "be such as '30', '01:00:00' or '2-00:00:00', as sbatch takes it"
_DEVICE = "be 'auto', 'cpu', 'cuda' or 'cuda:N'"

S = TypeVar("S", bound="Spec")
T = TypeVar("T")
L = TypeVar("L", bound="Leading")
Whole = Annotated[int, Field(strict=True)]  # strict: neither text nor true stands for a number
Real = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Number = Whole | Real
Value = Number | Flag | tuple[Number, ...]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]


def _kind_of_layers(found: Any) -> str:
    return "layer" if isinstance(found, str) else "several"


Layers = Annotated[  # one layer, or several that are one space
    Annotated[str, Tag("layer")] | Annotated[tuple[str, ...], Field(min_length=2), Tag("several")],
    Discriminator(_kind_of_layers),
]


def is_pooling(name: str) -> bool:
    """Tell whether a pooling is called so."""
    return _POOLING.fullmatch(name) is not None


def _pooling(found: str) -> str:
    if not is_pooling(found):
        raise ValueError(f"a pooling must be none, mean, max, cls, patches, tokens or grid:SIDE. Got {found!r}")
    return found


def _kind_of_size(found: Any) -> str:
    return "word" if found in (ALL, AUTO) else "number"


Size = Annotated[
    Annotated[Whole, Field(ge=1), Tag("number")] | Annotated[Literal["all", "auto"], Tag("word")],
    Discriminator(_kind_of_size),
]
Reduction = Literal["pca", "srp", "all"]


def joined(layers: Layers) -> str:
    """Name a feature space after its layers.

    Examples
    --------
    >>> joined(("blocks.3", "blocks.9"))
    'blocks.3+blocks.9'
    """
    return layers if isinstance(layers, str) else "+".join(layers)


Pooling = Annotated[str, AfterValidator(_pooling)]


class Spec(BaseModel):
    """Base of all specs: frozen, and an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _kind_of_folds(found: Any) -> str:
    return "text" if isinstance(found, str) else "number"


class SplitSpec(Spec):
    """Which rows train, validate and confirm. A text alone is a preset.

    Attributes
    ----------
    preset : str, optional
        ``"img2brain-2023"``, the predecessor's rows: ``numpy.random.seed(224)``, shuffle, the first round(0.8 n) train,
        the others validate. Or a split that the dataset's layout brings, such as ``"nsd:shared515"``.
    file : Path, optional
        A table (.csv, .tsv) with the columns image (or stimulus_id) and part, or JSON: from image file names or
        stimulus ids to parts, or from parts to lists of them.
    column : str, optional
        A column of the dataset that holds the part of each row.
    rows : mapping of str to str, optional
        Parts by the numbers of their rows, as records have them: ``{"train": "0-79", "test": "80-99 105"}``.
    parts : tuple of str, optional
        The confirmation parts of `file` or `column` in their order, the first of which ranks models; by default as they
        first come up.
    rest : {"train", "leave out"}, optional
        What becomes of rows that `file` or `column` gives no part; by default there must be none.
    seed : int
        Seed of the shuffle.
    validation : float
        Fraction of the development rows that validate. It is cut from the training rows of a split that is given
        without a validation part.
    confirmation : float
        Fraction of the rows kept out of the search. Without effect where the dataset brings test responses: they
        confirm. Where the split is given, none unless it is said.
    folds : int or str, optional
        In place of one validation part: so many parts of the development rows take turns to validate, with components,
        centring and regressor fitted to the others each time. A text is a column, of which each value has its turn.
    groups : str, optional
        A column: rows of one value stay on one side.
    stratify : str, optional
        A column: its values have like shares in every part that is cut.
    """

    preset: str | None = None
    file: Path | None = None
    column: str | None = Field(default=None, min_length=1)
    rows: Mapping[str, str] | None = Field(default=None, min_length=1)
    parts: tuple[str, ...] | None = Field(default=None, min_length=1)
    rest: Literal["train", "leave out"] | None = None
    seed: Seed = 0
    validation: Real = Field(default=0.2, gt=0, lt=1)
    confirmation: Real = Field(default=0.1, ge=0, lt=1)
    folds: (
        Annotated[
            Annotated[Whole, Field(ge=2), Tag("number")] | Annotated[str, Field(min_length=1), Tag("text")],
            Discriminator(_kind_of_folds),
        ]
        | None
    ) = None
    groups: str | None = Field(default=None, min_length=1)
    stratify: str | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _text_is_a_preset(cls, found: Any) -> Any:
        return {"preset": found} if isinstance(found, str) else found

    @field_validator("preset")
    @classmethod
    def _is_ours_or_of_a_layout(cls, preset: str | None) -> str | None:
        if preset is not None and preset != PREDECESSOR and not re.fullmatch(_OF_LAYOUT, preset):
            raise ValueError(
                f"it must be {PREDECESSOR!r}, or a split that a layout brings, such as 'nsd:shared515'. Got {preset!r}"
            )
        return preset

    @field_validator("file")
    @classmethod
    def _file_absolute(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        folder = _folder_of(info)
        return plain.path_of(path, folder) if path is not None and folder is not None else path

    @field_validator("parts")
    @classmethod
    def _each_part_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return _each_once(names) if names else names

    @model_validator(mode="after")
    def _one_way_to_split(self) -> Self:
        others = self.model_fields_set - {"preset"}
        if self.preset == PREDECESSOR and others:
            raise ValueError(f"the preset {self.preset!r} fixes the rows: leave out {', '.join(sorted(others))}")
        given = [name for name in ("preset", "file", "column", "rows") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(map(repr, given))} both give the rows: leave one out")
        if self.parts and given not in (["file"], ["column"], ["rows"]):
            raise ValueError("'parts' are of a split that 'file' or 'column' gives: leave them out")
        if self.rest and given not in (["file"], ["column"]):
            raise ValueError("'rest' is of a split that 'file' or 'column' gives: leave it out")
        if self.folds and "validation" in self.model_fields_set:
            raise ValueError("'folds' take turns to validate: leave out 'validation'")
        return self

    @property
    def text(self) -> str:
        """How rows are divided, on one line."""
        if self.preset == PREDECESSOR:
            return PREDECESSOR
        said = [self.preset] if self.preset else [f"file {self.file.name}"] if self.file else []
        said += [f"{name} {getattr(self, name)}" for name in ("column", "groups", "stratify") if getattr(self, name)]
        said += ["rows"] if self.rows else []
        said += [f"folds {self.folds}"] if isinstance(self.folds, str) else []
        return ", ".join([*said, f"seed {self.seed}"])


class SampleSpec(Spec):
    """A generated dataset of pictures and simulated voxels."""

    images: Whole = Field(default=600, ge=20)
    voxels: Whole = Field(default=500, ge=1)
    seed: Seed = 0


class PreparationSpec(Spec):
    """How trials become responses, as far as it is asked for; what is not said is left to the layout.

    Attributes
    ----------
    subject : str, optional
        Whose responses, where a folder holds several subjects.
    normalise : {"none", "session", "run"}, optional
        Whether each voxel's responses are z-scored within each session or run.
    repeats : {"mean", "single"}, optional
        Whether an image's trials are averaged, as they are by default, or each is a row.
    voxels : str, optional
        The voxels to keep, such as ``"nc > 0.3"`` or ``"V1 or V2"``; all by default.
    images : Path, optional
        The folder or file of the images, where they are apart from the responses.
    responses : str, optional
        Which responses, where a folder holds several.
    """

    subject: str | None = Field(default=None, min_length=1)
    normalise: Literal["none", "session", "run"] | None = None
    repeats: Literal["mean", "single"] | None = None
    voxels: str | None = Field(default=None, min_length=1)
    images: Path | None = None
    responses: str | None = Field(default=None, min_length=1)

    @field_validator("images")
    @classmethod
    def _images_absolute(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        folder = _folder_of(info)
        return plain.path_of(path, folder) if path is not None and folder is not None else path

    @property
    def preparation(self) -> PreparationSpec:
        """What is asked of the trials, without all else."""
        return PreparationSpec(**{name: getattr(self, name) for name in PreparationSpec.model_fields})

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of what is asked for."""
        return tuple(name for name in PreparationSpec.model_fields if getattr(self, name) is not None)


def _kind_of_subjects(found: Any) -> str:
    return "every" if isinstance(found, str) else "named"


Named = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
Subjects = Annotated[
    Annotated[Literal["all"], Tag("every")] | Annotated[Named, Tag("named")], Discriminator(_kind_of_subjects)
]


class DatasetSpec(PreparationSpec):
    """Where the images and responses are, a folder or generated sample data, and what is taken of them.

    Attributes
    ----------
    path : Path, optional
        The dataset folder.
    layout : str, optional
        The layout of the folder, or ``PATH.py:NAME``; by default the one that recognises it.
    sample : SampleSpec, optional
        Sample data, written once under the home folder.
    shuffle : int, optional
        A control: the responses are shuffled against the images with this seed, so that nothing can be predicted.
    subjects : tuple of str or "all", optional
        Several subjects of a folder in place of one: each is a member of the study.

    The keys of `PreparationSpec` say what is taken of a folder.
    """

    path: Path | None = None
    layout: str | None = None
    sample: SampleSpec | None = None
    shuffle: Seed | None = None
    subjects: Subjects | None = None

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        folder = _folder_of(info)
        return plain.path_of(path, folder) if path is not None and folder is not None else path

    @field_validator("layout")
    @classmethod
    def _known(cls, layout: str | None, info: ValidationInfo) -> str | None:
        return None if layout is None else _loaded(LAYOUTS, layout, info)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.sample is None):
            raise ValueError("give either 'path' (a dataset folder) or 'sample' (generated data)")
        if self.sample is not None and self.layout is not None:
            raise ValueError("sample data has its own layout: leave out 'layout'")
        if self.subject is not None and self.subjects is not None:
            raise ValueError("give either 'subject' (one) or 'subjects' (each a member of the study)")
        return self

    @field_validator("subjects")
    @classmethod
    def _each_subject_once(cls, subjects: Subjects | None) -> Subjects | None:
        return _each_once(subjects) if isinstance(subjects, tuple) else subjects


class StimulusSpec(Spec):
    """How large pictures were shown.

    Attributes
    ----------
    degrees : float
        What a picture covered of the visual field, from one side to the other, in degrees.
    background : str
        The colour around it: ``"grey"``, or ``#rrggbb``.
    """

    degrees: Real = Field(gt=0, le=180)
    background: str = "grey"

    @field_validator("background")
    @classmethod
    def _is_colour(cls, found: str) -> str:
        if not _COLOUR.fullmatch(found):
            raise ValueError(f"a background must be 'grey' or '#rrggbb'. Got {found!r}")
        return found

    @property
    def colour(self) -> str:
        """The background as ``#rrggbb``."""
        return _GREY if self.background == "grey" else self.background


class BackboneSpec(Spec):
    """A network with its weights, and the layers that the search may choose.

    Attributes
    ----------
    name : str
        A network: ``resnet50``, or with its library ``torchvision:resnet50``, or ``PATH.py:LIBRARY:resnet50``, or
        ``PATH.py:FUNCTION`` that builds one. A pattern, ``timm:*dino*``, stands for all that fit; a file of names,
        ``zoo.txt``, for those in it, one a line, each with weights of its own behind it or those of the table.
    weights : str
        A torchvision weight enum name (``"IMAGENET1K_V1"``), ``"random:SEED"``, or a checkpoint file.
    layers : tuple of str or tuple of str, optional
        Graph nodes; the curated list of the network by default. Several in one item are one feature space.
    preprocessing : {"weights", "resize224"}
        The weights' own transform, or the predecessor's: resized to 224 x 224 without a crop.
    pooling : tuple of str, optional
        How its layers are pooled; by default as the study says.
    degrees : float
        What its input stands for of the visual field, where the study says how large pictures were shown.
    """

    name: str
    weights: str
    layers: tuple[Layers, ...] | None = Field(default=None, min_length=1)
    preprocessing: Literal["weights", "resize224"] = "weights"
    pooling: tuple[Pooling, ...] | None = Field(default=None, min_length=1)
    degrees: Real = Field(default=8.0, gt=0, le=180)

    @field_validator("name")
    @classmethod
    def _library_is_known(cls, name: str, info: ValidationInfo) -> str:
        """Load the library that stands before the network's name."""
        library, colon, network = name.rpartition(":")
        if not colon:
            return name
        label = _loaded(LIBRARIES, library, info)
        return f"{label}:{LIBRARIES[label].known(network, _folder_of(info))}"

    @field_validator("weights")
    @classmethod
    def _absolute(cls, weights: str, info: ValidationInfo) -> str:
        folder = _folder_of(info)
        return weights if folder is None else absolute_weights(weights, folder)

    @field_validator("layers")
    @classmethod
    def _each_layer_once(cls, layers: tuple[Layers, ...] | None) -> tuple[Layers, ...] | None:
        for item in layers or ():
            _each_once([item] if isinstance(item, str) else item)
        _each_once([joined(item) for item in layers or ()])
        return layers

    @property
    def single_layers(self) -> tuple[str, ...]:
        """The layers that are named, each once, also those that are parts of a space of several."""
        items = [[item] if isinstance(item, str) else item for item in self.layers or ()]
        return tuple(dict.fromkeys(layer for item in items for layer in item))

    @field_validator("pooling")
    @classmethod
    def _each_pooling_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return _each_once(names) if names else names


class Interval(Spec):
    """An interval to search."""

    low: Real
    high: Real
    log: Flag = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"'low' must be below 'high'. Got {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"'low' of a logarithmic range must be > 0. Got {self.low:g}")
        return self


Choices = Annotated[tuple[Number, ...], Field(min_length=1)]


def _kind_of_domain(found: Any) -> str:
    return (
        "interval"
        if isinstance(found, Mapping | Interval)
        else "flag"
        if isinstance(found, bool)
        else "choices"
        if isinstance(found, list | tuple)
        else "number"
    )


Domain = Annotated[
    Annotated[Interval, Tag("interval")]
    | Annotated[Flag, Tag("flag")]
    | Annotated[Choices, Tag("choices")]
    | Annotated[Number, Tag("number")],
    Discriminator(_kind_of_domain),
]


class RegressorSpec(Spec):
    """A regressor, and where its hyperparameters are searched.

    What is left out keeps the regressor's own default: alpha follows the spectrum of the components at hand, so that
    one search serves layers whose activations differ by orders of magnitude. What is given is absolute, in
    scikit-learn's scaling. A list holds values to search, or is the one value of an option, such as the ``alphas`` that
    a cross-validation chooses from.
    """

    name: str
    search: Mapping[str, Domain] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        return _loaded(REGRESSORS, name, info)


class ClusterSpec(Spec):
    """Where the work of a study is done, beside the process that runs it: by the workers of a Dask cluster.

    Attributes
    ----------
    kind : {"local", "slurm", "scheduler"}
        Processes of this machine, jobs of SLURM, or the workers of a scheduler that is there already.
    address : str
        That of the scheduler, ``tcp://HOST:PORT`` or ``tls://HOST:PORT``.
    workers : int
        Processes; of SLURM, jobs. One that dies is started again.
    threads : int
        Cores of each, which work on one shard or trial together.
    memory_gb : float
        Memory of each.
    gpu : bool
        Whether each job gets a GPU of its own.
    queue, account, walltime : str
        Of the jobs: partition, account, and the most time that each may take.
    directives : tuple of str
        Further options of ``sbatch``, such as ``--constraint=a100``.
    prologue : tuple of str
        Shell lines that a job begins with, such as ``module load cuda``.
    interface : str
        The network interface through which jobs reach the scheduler, such as ``ib0``.
    wait_s : float
        How long the study waits while there is no worker, in seconds.
    tls_ca, tls_cert, tls_key : Path, optional
        Files of the certificates that scheduler, workers and this process show each other.
    """

    kind: Literal["local", "slurm", "scheduler"] = "local"
    address: str = Field(default="", pattern=r"^$|^(tcp|tls)://[^\s/]+:[0-9]{1,5}$", description=_ADDRESS)
    workers: Whole = Field(default=2, ge=1, le=10_000)
    threads: Whole = Field(default=1, ge=1, le=1024)
    memory_gb: Real = Field(default=4, gt=0)
    gpu: Flag = False
    queue: str = Field(default="", pattern=_WORD, description=_NO_SPACE)
    account: str = Field(default="", pattern=_WORD, description=_NO_SPACE)
    walltime: str = Field(default="01:00:00", pattern=r"^([0-9]+-)?[0-9]+(:[0-9]+){0,2}$", description=_TIME)
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    interface: str = Field(default="", pattern=_WORD, description=_NO_SPACE)
    wait_s: Real = Field(default=600, gt=0)
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @field_validator("directives")
    @classmethod
    def _are_options(cls, found: tuple[str, ...]) -> tuple[str, ...]:
        for text in found:
            if not re.fullmatch(r"--?[A-Za-z][\w-]*([= ][^\r\n]*)?", text):
                raise ValueError(
                    f"each of the 'directives' must be an option of sbatch, such as '-C a100'. Got {text!r}"
                )
            if key := _key_of(text):
                raise ValueError(f"what {text!r} says must be said by {key!r}, not by the 'directives'")
        return found

    @field_validator("prologue")
    @classmethod
    def _are_lines(cls, found: tuple[str, ...]) -> tuple[str, ...]:
        for text in found:
            if len(text.splitlines()) > 1:
                raise ValueError(f"each item of the 'prologue' must be one line. Got {text!r}")
        return found

    @field_validator("tls_ca", "tls_cert", "tls_key")
    @classmethod
    def _from_the_folder(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        folder = _folder_of(info)
        return path if path is None or folder is None else plain.path_of(path, folder).resolve()

    @model_validator(mode="after")
    def _has_names_for_a_shell(self) -> Self:
        """Refuse files whose names the shell of a job would take apart."""
        for path in (self.tls_ca, self.tls_cert, self.tls_key):
            if self.kind == "slurm" and path is not None and shlex.quote(str(path)) != str(path):
                raise ValueError(f"the names of TLS files must be without blanks and quotes. Got {str(path)!r}")
        return self

    @model_validator(mode="after")
    def _says_what_has_an_effect(self) -> Self:
        """Refuse keys of another kind, a scheduler without an address, and half of what TLS needs."""
        for kind, keys in _OF_KIND.items():
            if self.kind not in kind.split() and (given := sorted(self.model_fields_set & keys)):
                raise ValueError(f"{given[0]!r} is of a cluster of kind {' or '.join(map(repr, kind.split()))}")
        if self.kind == "scheduler" and not self.address:
            raise ValueError("a cluster of kind 'scheduler' needs an 'address', such as 'tcp://HOST:8786'")
        if len({path is None for path in (self.tls_ca, self.tls_cert, self.tls_key)}) > 1:
            raise ValueError("TLS needs 'tls_ca', 'tls_cert' and 'tls_key'")
        return self


_SAID_BY = {  # options of sbatch, and the keys that say them
    "workers": ("-a", "--array", "-n", "--ntasks"),
    "threads": ("-c", "--cpus-per-task"),
    "memory_gb": ("--mem",),
    "walltime": ("-t", "--time"),
    "queue": ("-p", "--partition"),
    "account": ("-A", "--account"),
}


def _key_of(directive: str) -> str:
    """Return the key that says what an option of sbatch says; a long one may be cut short, a short one glued."""
    name = re.split("[= ]", directive, maxsplit=1)[0]
    name = name if name.startswith("--") else name[:2]
    return next((key for key, options in _SAID_BY.items() if any(item.startswith(name) for item in options)), "")


_OF_KIND = {  # keys of a cluster that have no effect on those of other kinds
    "scheduler": {"address"},
    "local slurm": {"workers", "threads", "memory_gb"},
    "slurm": {"gpu", "queue", "account", "walltime", "directives", "prologue", "interface"},
}


class StudySpec(Spec):
    """A study: what is searched, on which data, how, and from which seed.

    Attributes
    ----------
    name : str
        The study's name; a digest of the search space is added where it is stored.
    dataset : DatasetSpec, optional
        The data; a study file must say which, `run_study` can be handed others.
    datasets : tuple of DatasetSpec
        Several in its place: each is a member of the study.
    split : SplitSpec
        Its rows.
    backbones : tuple of BackboneSpec
        Networks to search.
    n_components : tuple of int or str
        Sizes of the reduced features. ``"all"`` are all principal components; ``"auto"`` is, of sparse random
        projections, the Johnson-Lindenstrauss size.
    regressors : tuple of RegressorSpec
        Regressors to search.
    metrics : tuple of str
        What is scored of every trial, per voxel: names of the catalog, or ``PATH.py:NAME``.
    objective : str
        The metric that ranks the trials; the first of `metrics` by default, and always one of them.
    sampler : {"tpe", "random", "grid"}
        How the space is searched. A grid takes every listed value, and five values of each range.
    trials : int, optional
        Trials in all. Every cell of a grid by default.
    seed : int
        Seed of the sampler.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    precision : {"auto", "bfloat16", "float32"}
        What networks compute in; ``"auto"`` is bfloat16 for more than 8192 images, where the device is made for it.
    scratch_gb : float
        The most disk that activations may take for a while, in GB.
    pooling : tuple of str
        How layers are pooled, where a backbone does not say it; see `img2brain.features.pooling`.
    reduction : tuple of {"pca", "srp"}
        What reduces the features: principal components, or sparse random projections.
    stimulus : StimulusSpec, optional
        How large pictures were shown, so that networks see them as large; as they are by default.
    cluster : ClusterSpec, optional
        Who does the work: this process alone by default. No result depends on it.
    """

    name: str = Field(pattern=NAME_PATTERN, max_length=64, description=_NAME)
    dataset: DatasetSpec | None = None
    datasets: tuple[DatasetSpec, ...] = ()
    backbones: tuple[BackboneSpec, ...] = Field(min_length=1)
    n_components: tuple[Size, ...] = Field(min_length=1)
    regressors: tuple[RegressorSpec, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = Field(default=("pearson",), min_length=1)
    objective: str = ""
    split: SplitSpec = SplitSpec()
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    trials: Annotated[Whole, Field(ge=1)] | None = None
    seed: Seed = 0
    device: str = Field(default="auto", pattern=DEVICE_PATTERN, description=_DEVICE)
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    scratch_gb: Real = Field(default=50, gt=0)
    pooling: tuple[Pooling, ...] = Field(default=(NO_POOLING,), min_length=1)
    reduction: tuple[Literal["pca", "srp"], ...] = Field(default=(PCA,), min_length=1)
    stimulus: StimulusSpec | None = None
    cluster: ClusterSpec | None = None

    @field_validator("regressors", mode="before")
    @classmethod
    def _names_are_regressors(cls, found: Any) -> Any:
        """Accept plain names beside tables."""
        if not isinstance(found, list | tuple):
            return found
        return [_regressor_table(item) for item in found]

    @field_validator("metrics")
    @classmethod
    def _each_metric_once(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return _each_once([_loaded(METRICS, name, info) for name in names])

    @field_validator("objective")
    @classmethod
    def _objective_is_known(cls, name: str, info: ValidationInfo) -> str:
        return _loaded(METRICS, name, info) if name else ""

    @field_validator("n_components")
    @classmethod
    def _each_size_once(cls, sizes: tuple[int | str, ...]) -> tuple[int | str, ...]:
        return tuple(
            sorted(_each_once(sizes), key=lambda size: (math.inf, size) if isinstance(size, str) else (size, ""))
        )

    @field_validator("pooling", "reduction")
    @classmethod
    def _each_name_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _each_once(names)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that are numbers."""
        return tuple(size for size in self.n_components if isinstance(size, int))

    @field_validator("regressors")
    @classmethod
    def _each_regressor_once(cls, items: tuple[RegressorSpec, ...]) -> tuple[RegressorSpec, ...]:
        _each_once([item.name for item in items])
        return items

    @field_validator("backbones", mode="before")
    @classmethod
    def _lists_are_networks(cls, found: Any, info: ValidationInfo) -> Any:
        """Put the networks of a list in a file in the place of its name."""
        if not isinstance(found, list | tuple):
            return found
        return [table for item in found for table in _listed_networks(item, _folder_of(info))]

    @field_validator("backbones")
    @classmethod
    def _each_network_once(cls, items: tuple[BackboneSpec, ...]) -> tuple[BackboneSpec, ...]:
        _each_once([f"{item.name} {item.weights} {item.preprocessing}" for item in items])
        return items

    @model_validator(mode="after")
    def _objective_is_scored(self) -> Self:
        """Score the objective whether it is listed or not: alone, or before the others."""
        objective = self.objective or self.metrics[0]
        listed = self.metrics if "metrics" in self.model_fields_set else (objective,)
        others = [name for name in listed if name != objective]
        object.__setattr__(self, "objective", objective)
        object.__setattr__(self, "metrics", (objective, *others))
        return self

    @model_validator(mode="after")
    def _data_once(self) -> Self:
        if self.dataset is not None and self.datasets:
            raise ValueError("give either '[dataset]' or several '[[datasets]]'")
        return self

    @property
    def data(self) -> tuple[DatasetSpec, ...]:
        """The data, be they of one dataset or of several."""
        return self.datasets or (() if self.dataset is None else (self.dataset,))

    @model_validator(mode="after")
    def _each_reduction_has_a_size(self) -> Self:
        for name, word in ((PCA, ALL), (SRP, AUTO)):
            if name in self.reduction and not (self.sizes or word in self.n_components):
                raise ValueError(f"the reduction {name!r} needs numbers in 'n_components', or {word!r}")
            if name not in self.reduction and word in self.n_components:
                raise ValueError(f"{word!r} in 'n_components' is of the reduction {name!r}, which is not asked for")
        return self

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.trials is None and self.sampler != "grid":
            raise ValueError(f"'trials' is needed with the sampler {self.sampler!r}")
        return self


class _WithDataset(StudySpec):
    """A study as its file must have it."""

    dataset: DatasetSpec


class Leading(Protocol):
    """What is of several components, of which the first can be taken."""

    def leading(self, n_components: int, /) -> Self:
        """Return what is of the first components."""
        ...


@dataclass(frozen=True, order=True)
class FeatureSpace:
    """What of a network stands for an image.

    Attributes
    ----------
    layer : str
        The layer.
    pooling : str
        How it is pooled.
    basis : str
        What it is reduced to: its leading principal components, ``"pca"``, ``"all"`` of them, or ``"srp:SIZE"``.
    """

    layer: str
    pooling: str = NO_POOLING
    basis: str = PCA

    def __str__(self) -> str:
        said = {self.pooling: NO_POOLING, self.reduction: PCA}
        return " ".join([self.layer, *(name for name, usual in said.items() if name != usual)])

    @property
    def reduction(self) -> Reduction:
        """The basis, without its size."""
        return cast(Reduction, self.basis.partition(":")[0])


class TrialSpec(Spec):
    """One point of the search space: all that a score depends on, next to the data and its rows.

    What came later and is at its default is not written: such a spec has the digest that it had before.
    """

    backbone: str
    weights: str
    weights_digest: str
    preprocessing: str
    layer: str
    n_components: Whole
    regressor: str
    parameters: Mapping[str, Value] = Field(default_factory=dict)
    pooling: Pooling = NO_POOLING
    reduction: Reduction = PCA
    placement: str = ""

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if _ADDED.get(name) != value}

    @property
    def space(self) -> FeatureSpace:
        """What of the network stands for an image."""
        return FeatureSpace(self.layer, self.pooling, self.basis)

    @property
    def basis(self) -> str:
        """What the features are reduced to, see `FeatureSpace`."""
        return f"{SRP}:{self.n_components}" if self.reduction == SRP else self.reduction

    def leading(self, found: L) -> L:
        """Return what the trial takes of what was found of its space: the first components, or all there are."""
        return found if self.reduction == ALL else found.leading(self.n_components)

    @property
    def digest(self) -> str:
        """Digest of the whole spec."""
        return digest.of_value(self.model_dump(mode="json"))

    @property
    def label(self) -> str:
        """A short name for people."""
        return f"{self.backbone} {self._pipeline}"

    @property
    def weighted_label(self) -> str:
        """The same, with the weights."""
        return f"{self.backbone} {self.weights} {self._pipeline}"

    @property
    def _pipeline(self) -> str:
        values = " ".join(f"{name}={_short(value)}" for name, value in self.parameters.items())
        return f"{self.space} {self.n_components} {self.regressor} {values}".strip()


_ADDED = {
    "pooling": NO_POOLING,
    "reduction": PCA,
    "placement": "",
}  # keys of a trial that came later, and what they stand at where they are not written


def _short(value: Value) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(_short(item) for item in value)}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:.3g}"


def load_study(path: Path | str) -> StudySpec:
    """Read a study file.

    Parameters
    ----------
    path : Path or str
        A TOML file. Relative paths in it are taken from its own folder.

    Returns
    -------
    StudySpec

    Raises
    ------
    SpecError
        If the file is absent, is not TOML, or holds a key or value that is not allowed.
    """
    path = Path(path)
    try:
        table = plain.of_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{path}: no such study file.") from None
    except ValueError as error:
        raise SpecError(f"{path}: not a TOML file: {error}.") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}.") from None
    return parse(
        StudySpec if "dataset" in table or table.get("datasets") else _WithDataset,
        table,
        str(path),
        path.resolve().parent,
    )


def parse(kind: type[S], table: Mapping[str, Any], where: str, folder: Path | None = None) -> S:
    """Validate plain data as a spec, with one clear line where it is not.

    Parameters
    ----------
    kind : type
        What it shall become.
    table : mapping
        The data.
    where : str
        Where it comes from, for messages.
    folder : Path, optional
        What relative paths in it start from; they are left as they are otherwise.

    Raises
    ------
    SpecError
        Naming the file or option, the key, what was found and what is allowed.
    """
    try:
        return kind.model_validate(table, context={"folder": folder, "files": {}})
    except ValidationError as error:
        raise SpecError(f"{where}: {describe(kind, error)}") from None


def with_overrides(spec: StudySpec, **changes: Any) -> StudySpec:
    """Return the study with some of its fields replaced, validated again."""
    table = spec.model_dump(exclude_unset=True) | changes
    return parse(StudySpec, table, f"study {spec.name!r}")


def _folder_of(info: ValidationInfo) -> Path | None:
    """Return the folder that relative paths start from, where one was given."""
    folder: Path | None = (info.context or {}).get("folder")
    return folder


def _loaded(catalog: Catalog, name: str, info: ValidationInfo) -> str:
    """Make a component known, unless another file of the same name is in use in the same study."""
    label = catalog.load(name, _folder_of(info))
    plugin, files = catalog.plugin(label), (info.context or {}).get("files", {})
    first = files.setdefault((catalog.kind, label), plugin.path) if plugin else None
    if plugin and first != plugin.path:
        raise ValueError(f"two files have the {catalog.kind} {label!r}: {str(first)!r} and {str(plugin.path)!r}")
    return label


def absolute_weights(weights: str, folder: Path) -> str:
    """Take the path of a checkpoint file from `folder`; leave other weights as they are."""
    is_file = _CHECKPOINT.search(weights) or "/" in weights
    return str(plain.path_of(weights, folder).resolve()) if is_file else weights


def _listed_networks(table: Any, folder: Path | None) -> list[Any]:
    """Return a table for each line of a list, ``NAME`` or ``NAME WEIGHTS``; any other table as it is."""
    name = table.get("name") if isinstance(table, Mapping) else None
    if not isinstance(name, str) or not name.endswith(".txt"):
        return [table]
    path = plain.path_of(name, folder or Path.cwd())
    try:
        lines = [line.partition("#")[0].split() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"the list of networks {name!r} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
        ) from None
    wrong = next((number for number, words in enumerate(lines, 1) if len(words) > 2), None)
    if wrong:
        raise ValueError(f"a line of {name!r} must be NAME or NAME WEIGHTS. Line {wrong} is not")
    if not any(lines):
        raise ValueError(f"the list of networks {name!r} holds none")
    keys = ("name", "weights")
    return [{**table, **dict(zip(keys, words, strict=False))} for words in lines if words]


def _regressor_table(found: Any) -> Any:
    if isinstance(found, str):
        return {"name": found}
    if isinstance(found, Mapping) and "search" not in found:
        name = {key: found[key] for key in ("name",) if key in found}
        return name | {"search": {key: value for key, value in found.items() if key != "name"}}
    return found


def _each_once(values: Sequence[T]) -> tuple[T, ...]:
    twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is listed twice")
    return tuple(values)
