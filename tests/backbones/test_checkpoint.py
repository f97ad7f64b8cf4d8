from __future__ import annotations

import argparse
import io
import pickle
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from img2brain import digest
from img2brain.backbones import load_backbone
from img2brain.backbones._checkpoint import State, fetch, load_state, read_checkpoint
from img2brain.backbones._random import filled_by
from img2brain.backbones.torchvision import Torchvision
from img2brain.errors import WeightsError


@pytest.fixture(scope="module")
def state() -> State:
    return State(load_backbone("squeezenet1_1", "random:5").network.state_dict())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def published(folder: Path, state: State) -> str:
    """Save a checkpoint as a library publishes it, and return its address."""
    torch.save(dict(state), folder / "plain.pth")
    path = folder / f"squeezenet1_1-{digest.of_file(folder / 'plain.pth')[:8]}.pth"
    return (folder / "plain.pth").rename(path).as_uri()


def prefixed(prefix: str, state: State) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "": dict,
    "epoch": lambda state: {"state_dict": dict(state), "epoch": 3},
    "parallel": lambda state: {"model": prefixed("module.", state)},
    "double": lambda state: {key: value.double() for key, value in state.items()},
    "compiled": lambda state: {"net": prefixed("_orig_mod.", state)},
    "compiled inside": lambda state: {key.replace("features.", "features._orig_mod."): state[key] for key in state},
    "nested": lambda state: {"ema": {"module": prefixed("module._orig_mod.model.backbone.", state), "decay": 0.9}},
    "averaged": lambda state: {"n_averaged": torch.tensor(3), **prefixed("module.", state)},
    "lightning": lambda state: {
        "state_dict": prefixed("model.", state),
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "monitor": "loss"}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}],
        "hyper_parameters": {"lr": 0.1},
    },
    "timm": lambda state: {
        "epoch": 3,
        "arch": "squeezenet1_1",
        "args": argparse.Namespace(lr=0.1),
        "state_dict": dict(state),
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
    },
    "lightning with a loss and a metric": lambda state: {
        "state_dict": prefixed("model.", state) | {"criterion.weight": torch.ones(3), "train_acc.tp": torch.ones(3)},
    },
    "parallel inside": lambda state: {key.replace("features.", "features.module."): state[key] for key in state},
    "sharded": lambda state: prefixed(
        "_fsdp_wrapped_module.",
        State({key.replace("features.", "features._fsdp_wrapped_module."): state[key] for key in state}),
    ),
    "beside a smaller one": lambda state: {
        **prefixed("teacher.", state),
        **prefixed("student.", State({key: value[:1] for key, value in state.items()})),
    },
    "dino": lambda state: {"teacher": prefixed("backbone.", state), "dino_loss": {"center": torch.zeros(1, 3)}},
}


@pytest.mark.parametrize("wrap", WRAPPINGS)
def test_wrapped_checkpoints_load(tmp_path: Path, state: State, wrap: str) -> None:
    torch.save(WRAPPINGS[wrap](state), tmp_path / "mine.pt")
    backbone = load_backbone("squeezenet1_1", str(tmp_path / "mine.pt"))
    assert backbone.trained == "trained (file)"
    assert backbone.weights_digest == load_backbone("squeezenet1_1", "random:5").weights_digest


@pytest.fixture
def two(tmp_path: Path, state: State) -> Path:
    averaged = prefixed("module.", State({key: value + 1 for key, value in state.items()}))
    torch.save(
        {"state_dict": dict(state), "state_dict_ema": averaged, "ema": {"model": averaged}}, tmp_path / "two.pth"
    )
    return tmp_path / "two.pth"


def test_one_of_several_state_dicts_is_asked_for_by_name(two: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone("squeezenet1_1", str(two))
    assert f"several state dicts, 'state_dict', 'state_dict_ema', 'ema.model'. Name one of them, as in '{two}#" in str(
        caught.value
    )
    plain, averaged, inner = (
        load_backbone("squeezenet1_1", f"{two}#{part}") for part in ("state_dict", "state_dict_ema", "ema")
    )
    assert plain.weights_digest == load_backbone("squeezenet1_1", "random:5").weights_digest
    assert averaged.weights_digest == inner.weights_digest != plain.weights_digest
    assert averaged.label == "two.pth#state_dict_ema"
    assert averaged.taken == "the part 'state_dict_ema'; names without 'module.'"
    with pytest.raises(WeightsError, match=r"must hold one state dict 'emma'. It holds 'state_dict', "):
        load_backbone("squeezenet1_1", f"{two}#emma")


def test_a_prefix_of_names_is_asked_for_by_name(tmp_path: Path, state: State) -> None:
    both = prefixed("student.", State({key: value + 1 for key, value in state.items()})) | prefixed("old.", state)
    torch.save({"state_dict": both | {"criterion.weight": torch.zeros(3)}}, tmp_path / "mine.ckpt")
    with pytest.raises(WeightsError, match="does not fit squeezenet1_1") as caught:
        load_backbone("squeezenet1_1", str(tmp_path / "mine.ckpt"))
    assert "under 'student.', 'old.'; ask for it by name, as in '#state_dict.old'." in str(caught.value)
    backbone = load_backbone("squeezenet1_1", f"{tmp_path / 'mine.ckpt'}#state_dict.old")
    assert backbone.weights_digest == load_backbone("squeezenet1_1", "random:5").weights_digest


AMBIGUOUS: dict[str, Callable[[State], dict[str, torch.Tensor]]] = {
    "plain and averaged": lambda state: dict(state) | prefixed("model_ema.", state),
    "one in another": lambda state: prefixed("model.", state) | prefixed("model.ema_model.", state),
    "two parts, one name": lambda state: dict(state) | {"features.module.0.weight": state["features.0.weight"] + 1},
    "of a larger network": lambda state: (
        prefixed("model.", state) | {"model.features.99.weight": torch.ones(3), "criterion.weight": torch.ones(3)}
    ),
    "under a word of no wrapping": lambda state: prefixed("part.", state) | {"criterion.weight": torch.ones(3)},
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_what_could_be_another_network_is_refused(tmp_path: Path, state: State, kind: str) -> None:
    torch.save(AMBIGUOUS[kind](state), tmp_path / "mine.pt")
    with pytest.raises(WeightsError, match=r"mine\.pt does not fit squeezenet1_1: "):
        load_backbone("squeezenet1_1", str(tmp_path / "mine.pt"))


def test_what_was_left_out_is_told(tmp_path: Path, state: State) -> None:
    torch.save(
        prefixed("backbone.", State(headless(state))) | {"projection_head.0.weight": torch.ones(3, 3)},
        tmp_path / "mine.pt",
    )
    taken = load_backbone("squeezenet1_1", str(tmp_path / "mine.pt")).taken
    assert taken.startswith("names without 'backbone.'; without projection_head.0.weight; no classifier.1.weight")


def test_what_is_not_plain_is_told_in_the_label(tmp_path: Path, state: State) -> None:
    torch.save({"model_ema": dict(state)}, tmp_path / "mine.pt")
    torch.save({"model": dict(state)}, tmp_path / "plain.pt")
    assert load_backbone("squeezenet1_1", str(tmp_path / "mine.pt")).label == "mine.pt#model_ema"
    assert load_backbone("squeezenet1_1", str(tmp_path / "plain.pt")).label == "plain.pt"


def test_a_file_whose_name_has_the_sign_is_a_file(tmp_path: Path, state: State) -> None:
    torch.save(dict(state), tmp_path / "a#b.pth")
    assert load_backbone("squeezenet1_1", str(tmp_path / "a#b.pth")).label == "a#b.pth"


def headless(state: State) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if not key.startswith("classifier")}


HEADS: dict[str, Callable[[State], dict[str, torch.Tensor]]] = {
    "absent": headless,
    "of other classes": lambda state: (
        headless(state) | {"classifier.1.weight": torch.zeros(10, 512, 1, 1), "classifier.1.bias": torch.zeros(10)}
    ),
    "of another kind": lambda state: headless(state) | {"head.mlp.0.weight": torch.zeros(10, 512)},
    "of several layers": lambda state: headless(state) | {"classifier.1.0.weight": torch.zeros(10, 512)},
    "beside a backbone": lambda state: prefixed("backbone.", State(headless(state))) | {"fc.weight": torch.zeros(2, 2)},
}


@pytest.mark.parametrize("head", HEADS)
def test_a_classifier_may_be_absent(tmp_path: Path, state: State, head: str) -> None:
    torch.save(HEADS[head](state), tmp_path / "mine.pt")
    backbone, whole = (
        load_backbone("squeezenet1_1", str(tmp_path / "mine.pt")),
        load_backbone("squeezenet1_1", "random:5"),
    )
    assert backbone.absent == ("classifier.1.weight", "classifier.1.bias")
    assert backbone.layers == whole.layers[:-1]
    assert "no classifier.1.weight, classifier.1.bias" in backbone.taken
    assert backbone.digests(backbone.layers) == whole.digests(backbone.layers)
    for use in (backbone.extractor, backbone.digests):
        with pytest.raises(WeightsError, match=r"'classifier' needs weights that mine.pt lacks: classifier.1.weight"):
            use(["features.2", "classifier"])
    assert backbone.network.get_parameter("classifier.1.weight").isnan().all()


def test_half_a_network_is_refused(tmp_path: Path, state: State) -> None:
    torch.save({key: value for key, value in state.items() if "12" not in key}, tmp_path / "mine.pt")
    with pytest.raises(WeightsError, match=r"6 missing: features.12.squeeze.weight"):
        load_backbone("squeezenet1_1", str(tmp_path / "mine.pt"))


def test_safetensors_load(tmp_path: Path, state: State) -> None:
    save_file(state, tmp_path / "mine.safetensors")
    backbone = load_backbone("squeezenet1_1", str(tmp_path / "mine.safetensors"))
    assert backbone.weights_digest == load_backbone("squeezenet1_1", "random:5").weights_digest


def test_the_real_checkpoint_loads(shared: Path) -> None:
    backbone = load_backbone("squeezenet1_1", str(shared / "weights" / "squeezenet1_1.pth"))
    assert backbone.label == "squeezenet1_1.pth"
    assert backbone.trained == "trained (file)"
    assert backbone.weights_digest != load_backbone("squeezenet1_1", "random:0").weights_digest


def test_a_checkpoint_that_does_not_fit_is_compared(tmp_path: Path, state: State) -> None:
    other = {key: value for key, value in state.items() if not key.startswith("features.3")}
    other["head.weight"] = torch.zeros(2)
    other["classifier.1.weight"] = torch.zeros(10, 512, 1, 1)
    torch.save(other, tmp_path / "mine.pt")
    with pytest.raises(WeightsError) as caught:
        load_backbone("squeezenet1_1", str(tmp_path / "mine.pt"))
    assert str(caught.value) == (
        "mine.pt does not fit squeezenet1_1: 6 missing: features.3.squeeze.weight, features.3.squeeze.bias, "
        "features.3.expand1x1.weight, ...; 1 unexpected: head.weight; 1 of another shape: "
        "classifier.1.weight (10, 512, 1, 1) instead of (1000, 512, 1, 1)."
    )


def test_old_names_are_understood(tmp_path: Path) -> None:
    dense = load_backbone("densenet121", "random:0")
    old = {
        re.sub(r"(denselayer\d+\.(norm|conv))([12])", r"\1.\3", key): value
        for key, value in dense.network.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    assert load_backbone("densenet121", str(tmp_path / "old.pth")).weights_digest == dense.weights_digest


@pytest.mark.parametrize("name", ["mnasnet0_5", "vit_b_32"])
def test_checkpoints_without_module_versions_load(name: str) -> None:
    with filled_by(None):
        network = Torchvision().build(name, {})
    load_state(network, State(network.state_dict()), name=name, source="mine.pt")


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_may_be_absent(tmp_path: Path, name: str) -> None:
    whole = load_backbone(name, "random:0").network.state_dict()
    torch.save(whole, tmp_path / "whole.pt")
    torch.save({key: value for key, value in whole.items() if not key.lower().startswith("aux")}, tmp_path / "part.pt")
    options = [load_backbone(name, str(tmp_path / file)).options for file in ("whole.pt", "part.pt")]
    assert options == [{"transform_input": True, "aux_logits": True}, {"transform_input": True, "aux_logits": False}]
    assert load_backbone(name, "random:0").options["transform_input"] is False


class Attack:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("attacked"),))


def zipped(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no checkpoint"),
        (b"not a checkpoint at all", "no checkpoint"),
        (pickle.dumps({"a": Attack()}), "not run"),
        (pickle.dumps({"a": Attack()}, protocol=2), "not run"),
        (zipped({"a": Attack()}), "not run"),
        (pickle.dumps(nn.Linear(1, 1)), "not run"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"bad{suffix} is no checkpoint") as caught:
        load_backbone("squeezenet1_1", str(path))
    assert "\n" not in str(caught.value)
    assert message in str(caught.value) or suffix == ".safetensors"
    assert not Path("attacked").exists()


def test_a_truncated_file_is_refused(tmp_path: Path, state: State) -> None:
    torch.save(dict(state), tmp_path / "whole.pth")
    (tmp_path / "part.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=r"part.pth is no checkpoint, or is damaged"):
        load_backbone("squeezenet1_1", str(tmp_path / "part.pth"))


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}, {3: torch.zeros(1)}, torch.zeros(3)])
def test_something_else_than_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "mine.pt")
    with pytest.raises(WeightsError, match="must hold a state dict"):
        read_checkpoint(tmp_path / "mine.pt")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"must be a file that exists. Got .*absent"):
        read_checkpoint(tmp_path / "absent")


def test_a_download_is_kept_and_used(tmp_path: Path, hub: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    url = published(tmp_path, state)
    monkeypatch.setattr(Torchvision, "url", lambda *_: url)
    backbone = load_backbone("squeezenet1_1", "IMAGENET1K_V1")
    assert (backbone.trained, backbone.label) == ("trained", "IMAGENET1K_V1")
    assert [path.name for path in hub.iterdir()] == [url.rpartition("/")[2]]
    monkeypatch.setattr(urllib.request, "urlopen", None)
    assert load_backbone("squeezenet1_1", "IMAGENET1K_V1").weights_digest == backbone.weights_digest


@pytest.mark.parametrize("reason", [urllib.error.URLError("no route"), TimeoutError("no route")])
def test_a_failed_download_says_what_to_do(hub: Path, monkeypatch: pytest.MonkeyPatch, reason: Exception) -> None:
    def fail(url: str, timeout: float) -> None:
        assert timeout < 60
        raise reason

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(WeightsError, match=r"cannot be downloaded \(no route\)") as caught:
        load_backbone("alexnet", "IMAGENET1K_V1")
    message = str(caught.value)
    assert "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth" in message
    assert str(hub / "alexnet-owt-7be5be79.pth") in message
    assert "random:0" in message
    assert not list(hub.iterdir())


def test_a_damaged_download_is_not_kept(tmp_path: Path, hub: Path) -> None:
    (tmp_path / "net-00000000.pth").write_bytes(b"half")
    with pytest.raises(WeightsError, match="damaged"):
        fetch((tmp_path / "net-00000000.pth").as_uri(), "net")
    assert not list(hub.iterdir())


def test_a_damaged_file_in_the_cache_is_not_used(tmp_path: Path, hub: Path) -> None:
    hub.mkdir(parents=True)
    (hub / "net-00000000.pth").write_bytes(b"half")
    with pytest.raises(WeightsError, match=r"damaged.*Delete"):
        fetch("https://localhost/net-00000000.pth", "net")


@pytest.mark.parametrize("name", Torchvision().names)
def test_every_address_holds_a_digest(name: str) -> None:
    for weights in Torchvision().weight_names(name):
        assert re.search(r"-[0-9a-f]{8,}\.pth$", Torchvision().url(name, weights))
