"""The archives that can be fetched, and where to ask for those that cannot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from img2brain import plain, untrusted
from img2brain.errors import DataError, SpecError, did_you_mean
from img2brain.spec import NAME_PATTERN, Spec, Whole, parse

_HEXADECIMAL = r"^[0-9a-f]+$"
_LINE = r"^[^\x00-\x1f\x7f]*$"


class RemoteFile(Spec):
    """A file that is downloaded.

    Attributes
    ----------
    name : str
        What it is called here; a ``.zip`` is unpacked.
    url : str
        Where it is, by http or https.
    bytes : int, optional
        Its size, where it is known.
    sha256, md5 : str, optional
        Its digests, where they are known; the first that is given is checked.
    """

    name: str = Field(min_length=1)
    url: str = Field(min_length=1)
    bytes: Annotated[Whole, Field(ge=0)] | None = None
    sha256: str | None = Field(default=None, pattern=_HEXADECIMAL, min_length=64, max_length=64)
    md5: str | None = Field(default=None, pattern=_HEXADECIMAL, min_length=32, max_length=32)

    @model_validator(mode="after")
    def _plain_name(self) -> Self:
        try:
            untrusted.check_names([self.name], "an archive")
        except DataError:
            raise ValueError(f"'name' must be a plain relative name. Got {self.name[:100]!r}") from None
        return self


class PublicArchive(Spec):
    """Public data under one licence.

    Attributes
    ----------
    name : str
        What it is called.
    title, licence, citation, page : str
        What it is, how it may be used, how to cite it, and where it is described. A licence that is not given is that
        of its record.
    layout : str
        The layout that it becomes.
    bytes : int, optional
        What is downloaded, where it is known.
    record : str, optional
        The address of a record that tells its files: of Zenodo's or of figshare's kind.
    files : tuple of RemoteFile
        The files, where there is no record.
    """

    name: str = Field(pattern=NAME_PATTERN, max_length=100)
    title: str = Field(default="", pattern=_LINE, max_length=200)
    licence: str = Field(default="", pattern=_LINE, max_length=200)
    citation: str = Field(default="", pattern=_LINE, max_length=2000)
    page: str = Field(default="", pattern=_LINE, max_length=200)
    layout: str = Field(default="folder", pattern=_LINE, max_length=200)
    bytes: Whole | None = None
    record: str | None = None
    kind: Literal["zenodo", "figshare"] = "zenodo"
    files: tuple[RemoteFile, ...] = ()

    @model_validator(mode="after")
    def _has_files(self) -> Self:
        if (self.record is None) == (not self.files):
            raise ValueError("give either 'record', the address of a record, or [[files]]")
        if self.files and not self.licence:
            raise ValueError("'licence' must say how the files may be used")
        return self


ARCHIVES = {
    archive.name: archive
    for archive in (
        PublicArchive(
            name="img2brain-2023",
            title="the predecessor's images and fMRI responses, one subject of NSD",
            licence="CC0-1.0",
            citation="Ayala-Ruano (2023), Img2brain v1.0.0, Zenodo, doi:10.5281/zenodo.7979730",
            page="https://doi.org/10.5281/zenodo.7979730",
            record="https://zenodo.org/api/records/7979730",
        ),
        PublicArchive(
            name="things_fmri",
            title="THINGS-data, single-trial fMRI responses of three subjects, without images",
            citation="Hebart et al. (2023), THINGS-data, eLife 12:e82580",
            page="https://doi.org/10.25452/figshare.plus.20492835",
            layout="things_fmri",
            bytes=42_955_087_212,
            record="https://api.figshare.com/v2/articles/20492835",
            kind="figshare",
        ),
    )
}

ELSEWHERE: Mapping[str, str] = {
    "algonauts2023": "register for the challenge at http://algonauts.csail.mit.edu",
    "bold5000": "its parts are listed at https://bold5000-dataset.github.io/website/download.html",
    "brainio": "Brain-Score's public assemblies are named in https://github.com/brain-score/vision",
    "laion_fmri": "agree to its terms, as https://github.com/ViCCo-Group/LAION-fMRI says",
    "mosaic": "its files are named in https://github.com/murtylab/mosaic-dataset",
    "nsd": "agree to its terms at https://naturalscenesdataset.org",
    "sensorium2022": "its recordings are at https://gin.g-node.org/cajal/Sensorium2022",
    "things-images": "agree to their terms at https://things-initiative.org",
    "tvsd": "its recordings are at https://gin.g-node.org/paolo_papale/TVSD, its images are those of THINGS",
}


def find_archive(name: str) -> PublicArchive:
    """Return an archive by its name, or one that a TOML file describes.

    Parameters
    ----------
    name : str
        One of `ARCHIVES`, or the path of a ``.toml`` file with the keys of `PublicArchive`.

    Raises
    ------
    DataError
        If its owners have to be asked for it, or it is not known.
    SpecError
        If the file holds something that is not allowed.
    """
    if name.endswith(".toml"):
        return _of_file(Path(name))
    if name in ELSEWHERE:
        raise DataError(f"{name!r} must be had from its owners, under their terms: {ELSEWHERE[name]}.")
    if name not in ARCHIVES:
        raise DataError(f"Unknown archive {name!r}. {did_you_mean(name, [*ARCHIVES, *ELSEWHERE])}")
    return ARCHIVES[name]


def _of_file(path: Path) -> PublicArchive:
    try:
        told = plain.of_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpecError(f"{str(path)!r} must be a TOML file that describes an archive. Got: {reason}.") from error
    return parse(PublicArchive, told, str(path))
