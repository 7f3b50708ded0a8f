"""Attention rollout and its gradient-weighted form on transformers of several makes, against plain matrix products."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from xiqa.config import load_config
from xiqa.models.torchvision_import import import_timm
from xiqa.saliency import attribute, attribute_many
from xiqa.saliency.layer_maps import min_max

ROLLOUT, WEIGHTED = "attention_rollout", "gradient_attention_rollout"
BOTH = [ROLLOUT, WEIGHTED]


class Attention(nn.Module):
    """Self-attention in one of the ways in which people write it."""

    def __init__(self, width, heads, make):
        super().__init__()
        self.heads, self.make = heads, make
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.softmax, self.kept = nn.Softmax(dim=-1), None
        self.torch_own = nn.MultiheadAttention(width, heads, batch_first=True) if make.startswith("torch") else None
        if self.torch_own:  # the same numbers, so that all makes can be compared
            self.torch_own.in_proj_weight, self.torch_own.in_proj_bias = self.qkv.weight, self.qkv.bias
            self.torch_own.out_proj = self.out

    def forward(self, x):
        n, t, width = x.shape
        if self.torch_own and self.make != "kept":
            return self.torch_own(x, x, x, need_weights=self.make == "torch with weights")[0]
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scale = q.shape[-1] ** -0.5
        if self.make == "sdpa":
            x = functional.scaled_dot_product_attention(q, k, v)
        elif self.make == "sdpa with all options":
            mask = torch.zeros(t, t, dtype=q.dtype)
            x = functional.scaled_dot_product_attention(q * 2, k, v, attn_mask=mask, scale=scale / 2)
        else:
            logits = q @ k.transpose(-2, -1) * scale
            if self.make == "heads in the batch":
                logits = logits.flatten(0, 1)
            a = {
                "module": lambda: self.softmax(logits),
                "method": lambda: logits.softmax(3),
                "function": lambda: functional.softmax(logits, dim=-1, dtype=logits.dtype),
                "torch.softmax": lambda: torch.softmax(logits, -1).mul_(1),
                "heads in the batch": lambda: logits.softmax(-1).unflatten(0, (n, self.heads)),
                "unseen": lambda: logits.exp() / logits.exp().sum(-1, keepdim=True),
                "kept": lambda: logits.softmax(-1),
            }[self.make]()
            if self.make == "kept" and a.requires_grad:
                a.retain_grad()
            self.kept = a
            x = a @ v
        return self.out(x.transpose(1, 2).reshape(n, t, width))


class Transformer(nn.Module):
    """A vision transformer with a linear or a convolutional patch embedding.

    Args:
        before, after: tokens beside the patches.
        read: "first" token, "mean" of the patches, or "pool": a learnt query attends to all tokens.
    """

    def __init__(self, make="sdpa", before=1, after=0, read="first", layers=3, side=4, embed="conv", order="rows"):
        super().__init__()
        torch.manual_seed(5)
        width = 8
        self.side, self.before, self.read, self.embed, self.order = side, before, read, embed, order
        self.patches = nn.Conv2d(3, width, side, stride=side) if embed == "conv" else nn.Linear(3 * side**2, width)
        self.first = nn.Parameter(torch.randn(1, before, width))
        self.last = nn.Parameter(torch.randn(1, after, width))
        self.blocks = nn.ModuleList(Attention(width, 2, make) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.query = nn.Parameter(torch.randn(1, 1, 1, width))
        self.head = nn.Linear(width, 5)
        for block in self.blocks:
            nn.init.normal_(block.qkv.weight, 0, 1)  # attention that differs from token to token

    def forward(self, x):
        if self.embed == "conv":
            x = self.patches(x)
            x = (x if self.order == "rows" else x.mT).flatten(2).mT
        else:
            x = self.patches(functional.unfold(x, self.side, stride=self.side).mT)
        count = x.shape[1]
        x = torch.cat([self.first.expand(len(x), -1, -1), x, self.last.expand(len(x), -1, -1)], 1)
        x = (
            x + torch.linspace(-1, 1, x.shape[1], dtype=x.dtype)[:, None]
        )  # position embedding, for any number of tokens
        for block, norm in zip(self.blocks, self.norms, strict=True):
            x = x + block(norm(x))
        if self.read == "pool":
            query, x = self.query.expand(len(x), -1, -1, -1), x[:, None]
            return self.head(functional.scaled_dot_product_attention(query, x, x)[:, 0, 0])
        return self.head(x[:, 0] if self.read == "first" else x[:, self.before : self.before + count].mean(1))


def images(height=12, width=16, n=3, dtype=torch.float64):
    return torch.randn(n, 3, height, width, dtype=dtype, generator=torch.Generator().manual_seed(3))


def by_matrices(net, x, target, fusion="mean"):
    """Both maps on the grid, by whole matrices, one image at a time, from attention that the network itself keeps."""
    net = copy.deepcopy(net).double()
    for block in net.blocks:
        block.make = "kept"
    found = {name: [] for name in BOTH}
    rows, columns = x.shape[2] // net.side, x.shape[3] // net.side
    for image, label in zip(x.double(), target, strict=True):
        with torch.enable_grad():
            net(image[None])[0, label].backward()
        kept = [(block.kept[0].detach(), block.kept.grad[0]) for block in net.blocks]
        one = torch.eye(kept[0][0].shape[-1], dtype=torch.float64)
        rollout, relevance = one, one
        for a, gradient in kept:
            fused = {"mean": a.mean(0), "max": a.max(0).values, "min": a.min(0).values}[fusion]
            step = 0.5 * fused + 0.5 * one
            rollout = (step / step.sum(1, keepdim=True)) @ rollout
            relevance = relevance + (gradient * a).clamp(min=0).mean(0) @ relevance
        patches = slice(net.before, net.before + rows * columns)
        for name, matrix in ((ROLLOUT, rollout), (WEIGHTED, relevance - one)):
            row = matrix[0] if net.read == "first" else matrix[patches].mean(0)
            found[name].append(row[patches].reshape(rows, columns))
    return {name: torch.stack(maps) for name, maps in found.items()}


def enlarged(grid, size):
    return functional.interpolate(grid[:, None], size, mode="bilinear", align_corners=False)[:, 0]


TARGET = torch.tensor([0, 4, 2])
MAKES = [
    "sdpa", "sdpa with all options", "torch", "torch with weights", "module", "method", "function", "torch.softmax",
    "heads in the batch",
]  # fmt: skip


def test_one_layer_is_the_row_of_half_attention_and_half_identity():
    net, x = Transformer(layers=1).double(), images(8, 8, 1)
    found = attribute(net, x, 1, ROLLOUT, normalise=False)
    net.blocks[0].make = "kept"
    net(x)
    row = (net.blocks[0].kept[0].mean(0) / 2 + torch.eye(5) / 2)[0, 1:].detach()
    assert torch.allclose(found, enlarged(row.reshape(1, 2, 2), (8, 8)), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", MAKES)
def test_every_way_to_write_attention_gives_the_product_of_matrices(make, dtype):
    net, x = Transformer(make).to(dtype), images(dtype=dtype)
    expected = by_matrices(net, x, TARGET)
    found = attribute_many(net, x, TARGET, BOTH, normalise=False)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    for name in BOTH:
        whole = enlarged(expected[name], x.shape[2:])
        assert found[name].dtype == dtype
        assert float((found[name].double() - whole).abs().max()) < tolerance * float(whole.abs().max())
        one = attribute(net, x, TARGET, name)
        assert float((one.double() - min_max(whole)).abs().max()) < 10 * tolerance
        assert not one.requires_grad


@pytest.mark.parametrize("embed", ["conv", "linear"])
@pytest.mark.parametrize(
    ("before", "after", "read"),
    [(1, 0, "first"), (5, 0, "first"), (0, 0, "mean"), (1, 0, "mean"), (0, 3, "mean"), (1, 2, "first")],
)
def test_tokens_beside_the_patches_are_left_out_wherever_they_stand(embed, before, after, read):
    if embed == "linear" and before + after > 1 and read == "first":
        before, after = 1, 0
    net, x = Transformer(before=before, after=after, read=read, embed=embed).double(), images()
    expected = by_matrices(net, x, TARGET)
    found = attribute_many(net, x, TARGET, BOTH, normalise=False)
    for name in BOTH:
        assert torch.allclose(found[name], enlarged(expected[name], x.shape[2:]), atol=1e-12)


@pytest.mark.parametrize("size", [(16, 16), (8, 24), (24, 8), (4, 12), (4, 4)])
def test_grids_of_every_shape_lie_on_the_image_row_by_row(size):
    net = Transformer(layers=1).double()
    expected = by_matrices(net, images(*size), TARGET)
    found = attribute_many(net, images(*size), TARGET, BOTH, normalise=False)
    for name in BOTH:
        assert torch.allclose(found[name], enlarged(expected[name], size), atol=1e-12)


def test_attention_that_pools_the_tokens_is_the_row_that_is_read():
    net, x = Transformer(read="pool", layers=1, before=0).double(), images()
    found = attribute_many(net, x, TARGET, BOTH, normalise=False)
    net.blocks[0].make = "kept"
    seen = []
    net.head.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    tokens = []
    net.norms[0].register_forward_pre_hook(lambda module, args: tokens.append(args[0]))
    net(x)
    after = tokens[0] + net.blocks[0](net.norms[0](tokens[0]))
    pool = (net.query[0] @ after.mT / math.sqrt(8)).softmax(-1)  # (n, 1, t)
    step = net.blocks[0].kept.mean(1) / 2 + torch.eye(12) / 2
    assert torch.allclose(found[ROLLOUT], enlarged((pool @ step).reshape(3, 3, 4), (12, 16)).detach(), atol=1e-12)
    a = net.blocks[0].kept
    pooled_value = (pool @ after)[:, 0]
    assert torch.allclose(pooled_value, seen[0], atol=1e-12)
    logits = net.head(pooled_value).gather(1, TARGET[:, None]).sum()
    of_pool, of_a = torch.autograd.grad(logits, [pool, a])
    row = (of_pool * pool).clamp(min=0)
    expected = row + row @ (of_a * a).clamp(min=0).mean(1)
    assert torch.allclose(found[WEIGHTED], enlarged(expected.reshape(3, 3, 4), (12, 16)).detach(), atol=1e-12)


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_heads_are_fused_as_asked(fusion):
    net, x = Transformer().double(), images()
    expected = by_matrices(net, x, TARGET, fusion)[ROLLOUT]
    found = attribute(net, x, TARGET, ROLLOUT, head_fusion=fusion, normalise=False)
    assert torch.allclose(found, enlarged(expected, x.shape[2:]), atol=1e-12)


def test_the_smallest_attention_is_discarded_as_asked():
    net, x = Transformer(layers=1).double(), images(8, 8, 1)
    net.blocks[0].make = "kept"
    net(x)
    fused = net.blocks[0].kept[0].mean(0).detach()
    net.blocks[0].kept = None
    kept = torch.where(fused >= fused.flatten().sort().values[10], fused, 0)  # 10 of 25
    row = (kept + torch.eye(5))[0] / (kept + torch.eye(5))[0].sum()
    found = attribute(net, x, 1, ROLLOUT, discard_ratio=0.4, normalise=False)
    assert torch.allclose(found, enlarged(row[1:].reshape(1, 2, 2), (8, 8)), atol=1e-12)
    with pytest.raises(ValueError, match="discard_ratio 1"):
        attribute(net, x, 1, ROLLOUT, discard_ratio=1)
    with pytest.raises(ValueError, match="head_fusion 'median'"):
        attribute(net, x, 1, ROLLOUT, head_fusion="median")


def test_small_steps_are_not_lost_beside_the_identity():
    """Layer scale of 1e-6, as many transformers begin with: in float32 the map is the same as in float64."""
    net = Transformer(before=0, read="mean")
    for block in net.blocks:
        block.out.weight.data *= 1e-6
    x = images(dtype=torch.float32)
    found, exact = attribute(net, x, TARGET, WEIGHTED), attribute(net.double(), x.double(), TARGET, WEIGHTED)
    assert float((found - exact).abs().max()) < 1e-3
    assert float(exact.std()) > 0.1


@pytest.mark.parametrize("make", ["sdpa", "torch", "module"])
def test_images_do_not_see_each_other_and_batches_change_nothing(make):
    net, x = Transformer(make).double(), images(n=5)
    target = torch.tensor([0, 1, 2, 3, 4])
    together = attribute_many(net, x, target, BOTH)
    bounded = attribute_many(net, x, target, BOTH, memory_gb=1e-5)
    for name in BOTH:
        alone = torch.cat([attribute(net, x[[i]], target[[i]], name) for i in range(5)])
        assert torch.allclose(together[name], alone, atol=1e-12)
        assert torch.allclose(bounded[name], alone, atol=1e-12)


@pytest.mark.parametrize("make", ["sdpa", "torch", "module"])
def test_the_module_stays_as_it_is_and_gradients_may_be_off(make):
    net, x = Transformer(make).double().train(), images()
    state, fused = copy.deepcopy(net.state_dict()), torch.backends.mha.get_fastpath_enabled()
    random = torch.get_rng_state()
    expected = attribute_many(net, x, TARGET, BOTH)
    with torch.no_grad():
        found = attribute_many(net, x, TARGET, BOTH)
    for name in BOTH:
        assert torch.equal(found[name], expected[name])
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(block.kept is None for block in net.blocks)
    assert torch.backends.mha.get_fastpath_enabled() == fused
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {}),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}),
        ("vit_tiny_patch16_224", {"global_pool": "avg", "class_token": False}),
        ("deit_tiny_distilled_patch16_224", {}),
        ("vit_tiny_patch16_224", {"reg_tokens": 4}),
        ("vit_tiny_patch16_224", {"img_size": (32, 96)}),
    ],
)
def test_transformers_of_timm_fused_or_not(name, options):
    """timm computes attention in the open when told so: its own matrices, multiplied here, are the measure."""
    timm = import_timm()
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=5, depth=3, **({"img_size": 64} | options)).double().eval()
    height, width = options.get("img_size", (64, 64))
    x = images(height, width, n=2)
    found = attribute_many(net, x, TARGET[:2], BOTH, normalise=False)
    opened, kept = copy.deepcopy(net), []
    for block in opened.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, args, output: kept.append(output))
    gradients = torch.autograd.grad(opened(x).gather(1, TARGET[:2, None]).sum(), kept)
    rollout = relevance = one = torch.eye(kept[0].shape[-1], dtype=torch.float64)
    for a, gradient in zip(kept, gradients, strict=True):
        rollout = (a.mean(1) / 2 + one / 2) @ rollout
        relevance = relevance + (gradient * a).clamp(min=0).mean(1) @ relevance
    first = net.num_prefix_tokens
    read = slice(first, None) if options.get("global_pool") else slice(0, 2 if "distilled" in name else 1)
    for method, matrix in ((ROLLOUT, rollout), (WEIGHTED, relevance - one)):
        row = matrix[:, read, first:].mean(1).detach().reshape(2, height // 16, width // 16)
        assert torch.allclose(found[method], enlarged(row, (height, width)), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_transformer_of_torchvision_at_its_fast_path(dtype):
    import_timm()  # torchvision's import, mended
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    net = VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5
    ).to(dtype)  # fmt: skip
    nn.init.normal_(net.heads.head.weight)
    x = images(32, 32, n=2, dtype=dtype)
    found = attribute_many(net, x, TARGET[:2], BOTH, normalise=False)
    kept, opened = [], copy.deepcopy(net).double().eval()

    def attend(own):
        def forward(query, key, value, need_weights):
            q, k, v = functional.linear(query, own.in_proj_weight, own.in_proj_bias).chunk(3, -1)
            q, k, v = (one.unflatten(-1, (2, 8)).transpose(1, 2) for one in (q, k, v))
            a = (q @ k.mT / math.sqrt(8)).softmax(-1)
            a.retain_grad()
            kept.append(a)
            return own.out_proj((a @ v).transpose(1, 2).flatten(2)), None

        return forward

    for layer in opened.encoder.layers:
        layer.self_attention.forward = attend(layer.self_attention)
    opened(x.double()).gather(1, TARGET[:2, None]).sum().backward()
    rollout = relevance = one = torch.eye(17, dtype=torch.float64)
    for a in kept:
        rollout = (a.mean(1) / 2 + one / 2) @ rollout
        relevance = relevance + (a.grad * a).clamp(min=0).mean(1) @ relevance
    for method, matrix in ((ROLLOUT, rollout), (WEIGHTED, relevance)):
        whole = enlarged(matrix[:, 0, 1:].detach().reshape(2, 4, 4), (32, 32))
        tolerance = 1e-4 if dtype == torch.float32 else 1e-12
        assert float((found[method].double() - whole).abs().max()) < tolerance * float(whole.abs().max())


class Encoded(nn.Module):
    """torch's own encoder, which without gradients leaves Python altogether, behind overlapping convolutions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.encoder(self.stem(x).flatten(2).mT).mean(1))


def test_the_encoder_of_torch_behind_a_stem_of_convolutions():
    net, x = Encoded().double(), images(16, 24)
    found = attribute(net, x, TARGET, ROLLOUT, normalise=False)
    net.eval()
    tokens, rollout = net.stem(x).flatten(2).mT, torch.eye(24, dtype=torch.float64)
    for layer in net.encoder.layers:
        rollout = (layer.self_attn(tokens, tokens, tokens)[1] / 2 + torch.eye(24) / 2) @ rollout
        tokens = layer(tokens)
    expected = rollout.mean(1).reshape(3, 4, 6).detach()
    assert torch.allclose(found, enlarged(expected, (16, 24)), atol=1e-12)


@pytest.mark.parametrize("change", ["checkpointing", "bfloat16", "DataParallel", "compiled", "inference", "autocast"])
def test_however_a_transformer_is_run_its_maps_are_the_same(change):
    timm = import_timm()
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", num_classes=5, depth=2, img_size=64)
    x = images(64, 64, n=2, dtype=torch.float32)
    if change == "bfloat16":
        net = net.to(torch.bfloat16)
    expected = attribute_many(copy.deepcopy(net).float(), x, TARGET[:2], BOTH)
    surroundings = {"inference": torch.inference_mode(), "autocast": torch.autocast("cpu")}
    if change == "checkpointing":
        net.set_grad_checkpointing(True)
    elif change == "DataParallel":
        net = nn.DataParallel(net)
    elif change == "compiled":
        net = torch.compile(net, backend="eager")
    with surroundings.get(change, torch.enable_grad()):
        found = attribute_many(net, x, TARGET[:2], BOTH)
    for name in BOTH:
        assert float(expected[name].std()) > 0.1
        assert torch.allclose(found[name], expected[name], atol=1e-5)


def test_an_image_that_is_not_finite_has_no_map_and_leaves_the_others_alone():
    net, x = Transformer().double(), images()
    expected = attribute_many(net, x, "predicted", BOTH)
    x[1, 0, 2, 2] = torch.nan
    for name, found in attribute_many(net, x, "predicted", BOTH).items():
        assert found[1].isnan().all()
        assert torch.equal(found[[0, 2]], expected[name][[0, 2]])


def test_a_head_of_zeros_reads_the_class_token_and_has_no_relevance():
    net, x = Transformer().double(), images()
    expected = attribute(net, x, TARGET, ROLLOUT)
    nn.init.zeros_(net.head.weight)
    found = attribute_many(net, x, TARGET, BOTH)
    assert torch.allclose(found[ROLLOUT], expected)
    assert (found[WEIGHTED] == 0).all()


class Channels(nn.Module):
    """Attention among channels, as many of them as patches, instead of among patches."""

    def __init__(self):
        super().__init__()
        self.patches, self.qk, self.head = nn.Conv2d(3, 16, 4, stride=4), nn.Linear(16, 32), nn.Linear(16, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        q, k = self.qk(x).chunk(2, -1)
        return self.head((x + x @ (q.mT @ k)[:, None].softmax(-1)[:, 0]).mean(1))


class Detached(nn.Module):
    def forward(self, x):
        return x.detach()


def test_what_is_no_attention_among_all_patches_is_refused_by_name():
    timm = import_timm()
    x = images(16, 16, n=1, dtype=torch.float32)
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, num_classes=5)
    large = images(64, 64, n=1, dtype=torch.float32)
    for net, given, message in (
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14**2, 5)),
            x,
            "found no attention in Sequential",
        ),
        (nn.Sequential(Transformer(), Detached()), x, "no way for gradients from the output to all attention"),
        (Transformer("unseen"), x, "found no attention in Transformer.*'integrated_gradients'"),
        (swin, large, "such as within windows in SwinTransformer"),
        (timm.create_model("cait_xxs24_224", img_size=64, num_classes=5), large, "tokens in Cait"),
        (timm.create_model("pvt_v2_b0", num_classes=5), large, "tokens in PyramidVisionTransformerV2"),
        (Channels(), x, "16 tokens that are no grid of patches, row by row, for images of 16 x 16 pixels in Channels"),
        (Transformer(order="columns"), x, "no grid of patches, row by row"),
        (Transformer(order="columns"), images(8, 16, n=1, dtype=torch.float32), "no grid of patches, row by row"),
    ):
        with pytest.raises(ValueError, match=message):
            attribute(net, given, 1, ROLLOUT)


@pytest.mark.parametrize("read", ["first", "mean", "pool"])
@pytest.mark.parametrize("layer", [0, 1])
def test_layers_whose_attention_cannot_be_seen_are_not_left_out_in_silence(layer, read):
    class Mixes(nn.Module):
        """Tokens that learn of their neighbours by a convolution, as in hybrids."""

        def forward(self, x):
            return 0.1 * x.roll(1, 1)

    unseen, mixed = Transformer(read=read, layers=4), Transformer(read=read, layers=4)
    unseen.blocks[layer + 1].make = "unseen"
    mixed.blocks[layer + 1] = Mixes()
    for net in (unseen, mixed):
        with pytest.raises(ValueError, match="by other means than the attention that can be seen"):
            attribute(net.double(), images(), TARGET, ROLLOUT)


@pytest.mark.parametrize("key", ["methods", "costly_methods"])
def test_a_study_of_convolutional_networks_refuses_attention(key):
    import yaml

    with open("config/config.yaml", encoding="utf-8") as stream:
        content = yaml.safe_load(stream)
    content["saliency"][key] += [WEIGHTED]
    with pytest.raises(ValueError, match=r"no network of a study has attention.*xiqa\.saliency\.attribute"):
        load_config(content)
