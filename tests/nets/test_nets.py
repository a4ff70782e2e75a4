from typing import Any

import pytest
import torch
from conftest import composed
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hep2.errors import HEp2Error
from hep2.nets.architectures import DECODERS, ENCODERS, HEADS, build
from hep2.nets.dcae import Decoder, Encoder
from hep2.nets.mlp import MLP


def network(model: str) -> dict[str, Any]:
    chosen = composed(f"model={model}").model.network
    return {"image_size": chosen.image_size, "widths": list(chosen.widths)}


def flops(model: str) -> int:
    arguments = network(model)
    image = torch.rand(1, 1, 64, 64)
    with FlopCounterMode(display=False) as counter:
        Decoder(**arguments)(Encoder(**arguments)(image))
    return counter.get_total_flops()


@pytest.mark.parametrize("model", ["dcae", "dcae_small"])
def test_the_latent_of_both_models_has_4096_values(model: str) -> None:
    encoder = Encoder(**network(model))
    latent = encoder(torch.rand(2, 1, 64, 64))
    assert latent.shape == (2, 4096) and encoder.latent_size == 4096
    assert encoder.levels(torch.rand(2, 1, 64, 64)).shape == (2, 256, 4, 4)
    assert Decoder(**network(model))(latent).shape == (2, 1, 64, 64)


def test_the_small_model_does_a_third_of_the_arithmetic_or_less() -> None:
    assert 0 < flops("dcae_small") <= flops("dcae") / 3


@pytest.mark.parametrize("size", [16, 32, 48, 80, 128])
def test_other_image_sizes_have_latents_in_proportion(size: int) -> None:
    encoder, decoder = (net(size, (2, 3, 4, 5)) for net in (Encoder, Decoder))
    latent = encoder(torch.rand(3, 1, size, size))
    assert latent.shape == (3, 5 * (size // 16) ** 2) and encoder.latent_size == latent.shape[1]
    assert decoder(latent).shape == (3, 1, size, size)


def test_fewer_levels_are_possible() -> None:
    latent = Encoder(12, (2, 3))(torch.rand(2, 1, 12, 12))
    assert latent.shape == (2, 27)
    assert Decoder(12, (2, 3))(latent).shape == (2, 1, 12, 12)


@pytest.mark.parametrize("net", [Encoder, Decoder])
@pytest.mark.parametrize("size", [8, 60, 0])
def test_a_size_that_cannot_be_halved_is_refused(net: type[nn.Module], size: int) -> None:
    with pytest.raises(HEp2Error, match=rf"image_size={size} .* 4 times: choose a multiple of 16"):
        net(size, (2, 2, 2, 2))


def test_reconstructions_lie_between_black_and_white() -> None:
    decoder = Decoder(16, (2, 3))
    image = decoder(100 * torch.randn(4, 48))
    assert image.min() >= 0 and image.max() <= 1


def test_the_head_is_the_papers_4096_250_50_classes() -> None:
    head = composed().head
    mlp = build(HEADS, head.architecture, inputs=4096, classes=6, widths=list(head.widths))
    layers = [layer for layer in mlp.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [
        (4096, 250),
        (250, 50),
        (50, 6),
    ]
    assert mlp(torch.rand(3, 4096)).shape == (3, 6)


def test_the_heads_hidden_layers_have_the_asked_dropout() -> None:
    dropouts = [m.p for m in MLP(8, 2, (4, 3), dropout=0.3).modules() if isinstance(m, nn.Dropout)]
    assert dropouts == [0.3, 0.3]


def test_a_head_without_hidden_layers_is_linear() -> None:
    layers = [layer for layer in MLP(8, 3, ()).modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(8, 3)]


def test_an_unknown_network_is_refused_with_the_known_ones() -> None:
    with pytest.raises(HEp2Error, match=r"network 'vae' is unknown: choose one of .*dcae"):
        build(ENCODERS, "vae")


@pytest.mark.parametrize("table, name", [(ENCODERS, "dcae"), (DECODERS, "dcae"), (HEADS, "mlp")])
def test_an_unknown_argument_is_named(table: Any, name: str) -> None:
    with pytest.raises(HEp2Error, match=f"network '{name}' has no setting depht; it has .*widths"):
        build(table, name, depht=4)


def test_a_head_on_maps_sees_their_means() -> None:
    features = torch.rand(4, 12)
    head = MLP(12, 2, widths=(5,), channels=3).eval()
    means = torch.stack([features[:, :4], features[:, 4:8], features[:, 8:]], dim=2).mean(dim=1)
    assert torch.allclose(head(features), head.layers[1:](means), atol=1e-6)
    with pytest.raises(HEp2Error, match=r"12 values are no maps of channels=5"):
        build(HEADS, "mlp", inputs=12, classes=2, channels=5)


def test_inputs_are_brought_to_one_scale_each_or_together() -> None:
    inputs = 5 + torch.randn(4000, 3) * torch.tensor([0.1, 1.0, 10.0])
    seen = {
        how: MLP(3, 2, widths=(), standardise=how).layers[:-1](inputs)
        for how in (True, "together", False)
    }
    assert torch.allclose(seen[True].std(dim=0), torch.ones(3), atol=1e-3)
    together = (inputs - inputs.mean()) / inputs.std(correction=0)
    assert torch.allclose(seen["together"], together, atol=1e-4)
    assert torch.equal(seen[False], inputs)


@pytest.mark.parametrize("how", ["apart", 1, None])
def test_another_way_to_standardise_is_refused(how: Any) -> None:
    message = r"head.standardise=.* must be true, false or together"
    with pytest.raises(HEp2Error, match=message):
        build(HEADS, "mlp", inputs=3, classes=2, standardise=how)
