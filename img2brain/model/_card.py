"""The card of a model: what a reader must know before they use it, as the pages of model hubs show it.

Texts of others enter as text: no markup, no line and no key of theirs is one of the card.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from img2brain.amounts import counted

README, FIGURE = "README.md", "accuracy.svg"
_REDUCED = {"pca": "principal components", "all": "principal components, all", "srp": "random projections"}
# Names of licences that hubs know; any other is told in words.
_LICENCES = [
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-2.0",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc-by-nc-2.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0",
    "odc-by",
    "odbl",
    "pddl",
    "gpl-3.0",
    "unknown",
]
_MARKUP = re.compile(r"[^\w\s.,:/+=%()-]|_")
_WIDTH, _LEFT, _ROW, _BAR = 560, 110, 64, 48  # of the figure, in pixels
_COLOURS = ("#2c6fbb", "#8a8f98")  # of the model, and of what it has to beat


def card(about: Mapping[str, Any], has_figure: bool) -> str:
    """Write the card.

    Parameters
    ----------
    about : mapping
        See `EncodingModel.metadata`.
    has_figure : bool
        Whether the file of `figure` lies beside it.
    """
    sections = (_title(about), _data(about), _model(about), _scores(about, has_figure), _use(about), _cite(about))
    return "\n\n".join((_front_matter(about), *sections)) + "\n"


def figure(found: Mapping[str, Any], label: str) -> str:
    """Draw how many voxels have which score, of the model and below it of each control, as SVG."""
    edges, rows = found["edges"], list(found["counts"].items())
    step, base = (_WIDTH - _LEFT - 20) / (len(edges) - 1), 20 + len(rows) * _ROW
    drawn = [_ridge(name, counts, place, step) for place, (name, counts) in enumerate(rows)]
    ticks = [
        f'<text x="{_LEFT + step * at:.1f}" y="{base + 16}" text-anchor="middle">{edges[at]:.2f}</text>'
        for at in (0, (len(edges) - 1) // 2, len(edges) - 1)
    ]
    middle = (_LEFT + _WIDTH - 20) / 2
    axis = f'<text x="{middle}" y="{base + 34}" text-anchor="middle">{escape(label)} of a voxel</text>'
    size = f'width="{_WIDTH}" height="{base + 44}" viewBox="0 0 {_WIDTH} {base + 44}"'
    style = 'font-family="sans-serif" font-size="12" fill="#50555c"'
    background = f'<rect width="{_WIDTH}" height="{base + 44}" fill="#ffffff"/>'
    parts = (background, *drawn, *ticks, axis)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join(parts) + "\n</svg>\n"


def _ridge(name: str, counts: list[int], place: int, step: float) -> str:
    bottom, highest = 20 + (place + 1) * _ROW - 8, max(1, *counts)
    bars = [
        f'<rect x="{_LEFT + step * at:.1f}" y="{bottom - _BAR * count / highest:.1f}" width="{step - 1:.1f}" '
        f'height="{_BAR * count / highest:.1f}" fill="{_COLOURS[place > 0]}"/>'
        for at, count in enumerate(counts)
        if count
    ]
    line = f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{bottom}" y2="{bottom}" stroke="#c9ccd1"/>'
    return "\n".join((*bars, line, f'<text x="{_LEFT - 8}" y="{bottom - 4}" text-anchor="end">{escape(name)}</text>'))


def _front_matter(about: Mapping[str, Any]) -> str:
    """Write what hubs read, in JSON, which is YAML: a text of others is a string whatever is in it."""
    data = about["dataset"]
    fields = {
        **_licence(data["licence"]),
        "library_name": "img2brain",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["img2brain", "visual-encoding", "neuroscience", *filter(None, (_plain(data["species"]),))],
        "datasets": [_plain(data["name"])],
        "model-index": _index(about),
    }
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items() if value)
    return "\n".join(("---", *lines, "---"))


def _licence(text: str) -> dict[str, str]:
    """Name a licence as hubs do."""
    name = re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
    if not name or name in _LICENCES:
        return {"license": name or "unknown"}
    return {"license": "other", "license_name": name[:100]}


def _index(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    score = about["scores"]["confirmation"]
    if not score or score["estimate"] is None:
        return []
    objective, name = about["objective"], _plain(about["dataset"]["name"])
    result = {
        "task": {"type": "image-feature-extraction", "name": "Responses of the brain to images"},
        "dataset": {"type": name, "name": name},
        "metrics": [{"type": _plain(objective["name"]), "value": score["estimate"], "name": _plain(_measure(about))}],
    }
    return [{"name": f"{name} {_plain(about['network']['name'])}", "results": [result]}]


def _title(about: Mapping[str, Any]) -> str:
    data, takes = about["dataset"], "features" if about["network"]["name"] == "given" else "images"
    whose = " ".join(filter(None, (data["species"], data["subject"])))
    return (
        f"# {_text(data['name'])}: {takes} to responses\n\nAn encoding model: it predicts the responses of "
        f"{counted(about['n_voxels'], 'voxel')}{f' ({_text(whose)})' if whose else ''} to {takes}."
    )


def _data(about: Mapping[str, Any]) -> str:
    data, rows = about["dataset"], about["rows"]
    regions = ", ".join(f"{name} ({count})" for name, count in about["regions"].items())
    named = {"species": data["species"], "subject": data["subject"], "area": data["area"], "unit": data["unit"]}
    return _table("Data", {
        **named, "voxels": about["n_voxels"], "regions": regions, "images fitted to": rows["n_fitted"],
        "licence of the data": data["licence"] or "not said", "published at": data["url"], "digest": data["digest"],
    })  # fmt: skip


def _model(about: Mapping[str, Any]) -> str:
    network, regressor = about["network"], about["regressor"]
    parameters = ", ".join(f"{name} = {value}" for name, value in regressor["parameters"].items())
    layer = f"{network['layer']} {network.get('pooling', '')}".strip()
    return _table("Model", {
        "network": network["name"], "weights": f"{network['weights']} ({network['trained']})",
        "digest of the weights": network["weights_digest"], "layer": layer,
        _REDUCED[about.get("reduction", "pca")]: about["n_components"],
        "regressor": f"{regressor['name']} {parameters}".strip(),
        "made with": ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
    })  # fmt: skip


def _scores(about: Mapping[str, Any], has_figure: bool) -> str:
    scores, ceiling = about["scores"], about["ceiling"]
    if scores["confirmation"] is None:
        told = "No images were kept from the search: the score on those that chose the model flatters it."
        return f"## Scores\n\n{told} It is {_number(scores['validation'])}."
    rows = [("all", about["n_voxels"], scores["confirmation"])]
    rows += [(name, item["n_voxels"], item) for name, item in scores["regions"].items()]
    lines = [f"| {_text(name)} | {count} | {_interval(score)} |" for name, count, score in rows]
    n_images, looks = scores["n_images"] or "", about["looks"]
    told = (
        f"{_text(_measure(about))}, on {n_images} images that the search never saw, with an interval of 95 % over "
        f"images.{f' Models that were scored on these images, with this one: {looks}.' if looks else ''}"
    )
    against = [
        f"- control {_text(name)}: {_number(item['score'])}; the model minus it {_interval(item['difference'])}"
        for name, item in about["controls"].items()
    ]
    if ceiling:
        share = f"the model has {_number(ceiling['normalised'])} of it"
        against.append(f"- noise ceiling: {_number(ceiling['score'])}, from {_text(ceiling['origin'])}; {share}")
    parts = [f"## Scores\n\n{told}", "\n".join(("| region | voxels | score |", "|---|---|---|", *lines))]
    parts += _parts(about.get("parts", {}))
    parts += ["\n".join(against)] if against else []
    return "\n\n".join(parts + ([f"![Scores of voxels, beside the controls]({FIGURE})"] if has_figure else []))


def _parts(parts: Mapping[str, Any]) -> list[str]:
    """Write a table of the named parts of the images that the search never saw."""
    lines = [
        " | ".join(("", _text(name), str(item["n_images"] or ""), _interval(item), _drop(item["drop"]), "")).strip()
        for name, item in parts.items()
    ]
    head = ("| images that the search never saw | number | score | less than on the first |", "|---|---|---|---|")
    return ["\n".join((*head, *lines))] if lines else []


def _drop(found: Mapping[str, Any] | None) -> str:
    return _interval(found) if found else ""


def _use(about: Mapping[str, Any]) -> str:
    first = json.dumps(next(iter(about["regions"]), "")).replace("`", "\\u0060")  # which could end the block
    rois = f", rois=[{first}]" if about["regions"] else ""
    given = about["network"]["name"] == "given"
    images = '"features.npy"' if given else '["one.jpg", "two.png"]'
    return f"""## Use

```python
import img2brain

model = img2brain.load_model("FOLDER")  # this folder, or the file of `img2brain model export`
responses = model.predict({images}{rois}, as_frame=True)
```

Where it is registered, `img2brain.load_model("NAME@champion", home="mlruns")` loads it, and MLflow does:
`mlflow.pyfunc.load_model("models:/NAME@champion")`. The folder `golden` holds one input and what the model makes of it:
an installation that computes something else is refused before the first prediction."""


def _cite(about: Mapping[str, Any]) -> str:
    citation = _text(about["dataset"]["citation"]) or "The data come without a citation: ask who recorded them."
    return f"## Citation\n\n{citation}\n\nThe model was made with img2brain {_text(_made_with(about))}".rstrip() + "."


def _made_with(about: Mapping[str, Any]) -> str:
    return str(about["versions"].get("img2brain", ""))


def _measure(about: Mapping[str, Any]) -> str:
    objective = about["objective"]
    return f"{objective['label']} ({objective['summary'] or 'median'} over voxels)"


def _table(title: str, rows: Mapping[str, object]) -> str:
    lines = [f"| {name} | {_text(value)} |" for name, value in rows.items() if value not in ("", None)]
    return "\n".join((f"## {title}\n", "| | |", "|---|---|", *lines))


def _interval(score: Mapping[str, Any]) -> str:
    return f"{_number(score['estimate'])} [{_number(score['low'])}, {_number(score['high'])}]"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _plain(text: object) -> str:
    """Return a text on one line, of characters that are shown."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


def _text(text: object) -> str:
    """Return a text that is shown as it is: what would be markup is written by its number."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", _plain(text)).strip()
