"""Layer-wise relevance propagation (LRP) through any feed-forward torch module, residual additions and gates included.

The backward pass of autograd carries relevance instead of gradients: within a mode, every function of the network that
changes numbers gets a backward pass by its rule, while what only moves or selects numbers keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xiqa.saliency.explained import Explained
from xiqa.saliency.lrp_rules import HiddenRule, InputRule, quotient, relevance_below
from xiqa.saliency.outputs import only_tensor, with_tensor


class Relevance(NamedTuple):
    """Relevance of images.

    Attributes:
        maps: (n, c, h, w), relevance of the components of the input.
        output: (n,), relevance that entered at the output: Σ output · ∂f/∂output, which is f for a logit or a mean.
        absorbed: (n,), what biases, the stabiliser and dead units took on the way: output = maps.sum() + absorbed.
    """

    maps: Tensor
    output: Tensor
    absorbed: Tensor


def explain(
    target: Explained,
    x: Tensor,
    convolutions: HiddenRule = "z_plus",
    linear: HiddenRule = "epsilon",
    input_layer: InputRule = "w_squared",
    epsilon: float = 1e-6,
) -> Tensor:
    """LRP maps of the explained scalar; of an ensemble the mean of its members' maps.

    Convolutions and linear layers have a rule by option. Average pooling, sums, and factors that do not depend on the
    image follow the epsilon rule; so do additions: the summands get relevance in proportion to their values. ReLU and
    other activations without offset, and dropout, hand on what they get; max-pooling gives all to the largest. Batch
    normalisation is folded into a convolution in front of it; elsewhere its input and its offset share by their
    absolute values, so that no relevance blows up where they cancel. A gate (a sigmoid that scales activations, as in
    squeeze-and-excitation) counts as a constant factor: all relevance goes to what it scales.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        convolutions: rule of all convolutions but that of the input.
        linear: rule of the fully connected layers.
        input_layer: rule of the first convolution or fully connected layer. Its inputs have both signs, so z_plus is
            not the usual choice.
        epsilon: stabiliser of the epsilon rule, in the unit of the layer's output.

    Returns:
        Maps (n, c, h, w) in the unit of f.

    Raises:
        ValueError: an unknown rule; the network uses a function that has no rule here (named with its module).

    Reference: Bach et al. 2015, doi:10.1371/journal.pone.0130140, equations 56 and 58; Montavon et al. 2019,
    "Layer-wise relevance propagation: an overview", table 10.1 (z⁺, w² and flat rule); batch normalisation after Hui
    and Binder 2019, doi:10.1007/978-3-030-20518-8_24; gates after Arras et al. 2017, doi:10.18653/v1/W17-5221.
    """
    parts = [relevance(net, x, convolutions, linear, input_layer, epsilon).maps for net in target.networks()]
    return parts[0] if len(parts) == 1 else torch.stack(parts).mean(0)


def completeness_error(target: Explained, x: Tensor, name: str, found: Tensor) -> Tensor:
    """Sum of each map (n, h, w) or (n, c, h, w) less f(x), (n,): minus what biases, stabiliser and dead units took."""
    return found.sum(tuple(range(1, found.ndim))) - target.value(x)


def relevance(
    target: Explained,
    x: Tensor,
    convolutions: HiddenRule = "z_plus",
    linear: HiddenRule = "epsilon",
    input_layer: InputRule = "w_squared",
    epsilon: float = 1e-6,
) -> Relevance:
    """Relevance of images, with the account of where it was lost; arguments and errors as in `explain`."""
    hidden, first = get_args(HiddenRule), get_args(InputRule)
    if convolutions not in hidden or linear not in hidden or input_layer not in first:
        raise ValueError(
            f"LRP rules: found convolutions={convolutions}, linear={linear}, input_layer={input_layer}, "
            f"expected {' or '.join(hidden)} (input_layer also w_squared or flat)"
        )
    if epsilon <= 0:
        raise ValueError(f"epsilon: found {epsilon}, expected more than 0")
    scripted = [name for name, module in target.net.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        raise ValueError(f"LRP: found the compiled module '{scripted[0]}', expected modules in Python")
    rules = _Rules({"conv2d": convolutions, "linear": linear}, input_layer, epsilon)
    maps, values = torch.empty_like(x, memory_format=torch.contiguous_format), []
    hooks = rules.watch(target.net)
    try:
        with rules:
            for part in target.passes(x):
                maps[part.rows] = part.gradient
                values.append(part.value)
    finally:
        for hook in hooks:
            hook.remove()
    _check_values(torch.cat(values), target.value(x))
    output = torch.cat(rules.entered)
    return Relevance(maps, output, output - maps.sum((1, 2, 3)))


_OF_LAYERS = {"conv2d", "linear"}
_AVERAGES = {"avg_pool2d", "adaptive_avg_pool2d", "mean", "sum"}
_FACTORS = {"mul", "__mul__", "__rmul__", "multiply", "div", "__truediv__", "divide", "neg", "__neg__"}
_SUMS = {"add": 1, "__add__": 1, "__radd__": 1, "__iadd__": 1, "add_": 1, "sub": -1, "__sub__": -1, "__isub__": -1}
_ACTIVATIONS = {
    "relu", "relu_", "relu6", "leaky_relu", "elu", "silu", "gelu", "hardswish", "mish", "tanh", "dropout", "dropout2d",
}  # fmt: skip
_GATES = {"sigmoid", "sigmoid_", "hardsigmoid"}
# Each number of the result is one number of the input or a constant: relevance takes the way of the gradient.
_MOVES = {
    "flatten", "unflatten", "reshape", "reshape_as", "view", "view_as", "squeeze", "unsqueeze", "permute", "transpose",
    "swapaxes", "movedim", "t", "contiguous", "clone", "to", "type", "type_as", "float", "double", "alias",
    "__getitem__", "__get__", "narrow", "select", "index_select", "chunk", "split", "unbind", "cat", "concat", "stack",
    "pad", "expand", "expand_as", "repeat", "flip", "roll", "channel_shuffle", "pixel_shuffle", "pixel_unshuffle",
    "max_pool2d", "max_pool2d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool2d_with_indices",
}  # fmt: skip
_HINTS = {
    "batch_norm": "batch normalisation needs running statistics, without them images depend on each other",
    "softmax": "explain a logit instead",
    "log_softmax": "explain a logit instead",
}


class _Rules(TorchFunctionMode):
    """Within it, the backward pass of a watched network carries relevance.

    Args:
        rules: of "conv2d" and "linear".
        input_layer: rule of the first of them in a pass.
        epsilon: stabiliser.

    Attributes:
        entered: relevance at the output, (b,) for each backward pass.
    """

    def __init__(self, rules: dict[str, str], input_layer: str, epsilon: float):
        super().__init__()
        self.rules = rules
        self.input_layer = input_layer
        self.epsilon = epsilon
        self.entered: list[Tensor] = []
        self._inside: list[str] = []
        self._first = True

    def watch(self, net: nn.Module) -> list:
        """Hooks that tell where in `net` a function is called, and turn its output's gradient into relevance."""
        hooks = []

        def enter(name: str) -> Callable:
            def hook(module, args):
                if not name:
                    self._inside, self._first = [], True
                self._inside.append(f"{f'module {name!r}' if name else 'forward'} ({type(module).__name__})")

            return hook

        def leave(module, args, output):
            self._inside.pop()

        def start(module, args, output):
            try:
                given = only_tensor(output)
            except ValueError as error:
                raise ValueError(f"LRP: {error}") from None
            if not given.requires_grad and torch.is_grad_enabled():
                raise ValueError("LRP: found an output behind a sigmoid, expected logits; explain what enters it")
            return with_tensor(output, _Start.apply(given, self.entered, len(args[0])))

        for name, module in net.named_modules():
            hooks += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave)]
        return [*hooks, net.register_forward_hook(start)]

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        # Outside of the network (its scalar, its gradient) and without a gradient nothing is changed.
        if not self._inside or not torch.is_grad_enabled() or not _carries([*args, *kwargs.values()]):
            return function(*args, **kwargs)
        name = getattr(function, "__name__", str(function))
        if "input" in kwargs:
            args = (kwargs.pop("input"), *args)
        if name in _OF_LAYERS and not _carries([*args[1:], *kwargs.values()]):
            return self._layer(name, function, *args, **kwargs)
        if name in _SUMS:
            other = args[1] if len(args) > 1 else kwargs["other"]
            return _Sum.apply(args[0], other, _SUMS[name] * kwargs.get("alpha", 1), self.epsilon)
        if name in _AVERAGES or (name in _FACTORS and self._one_carries(name, args, kwargs)):
            return self._linear_in_one(function, args, kwargs)
        if name in _ACTIVATIONS:
            # A copy, because the function may work in place.
            return _HandOn.apply(args[0], lambda a: function(a.clone(), *args[1:], **kwargs))
        if name in _GATES:
            return function(*args, **kwargs).detach()
        if name == "batch_norm" and not (args[5] if len(args) > 5 else kwargs.get("training")):
            return self._normalised(function, *args, **kwargs)
        result = function(*args, **kwargs)
        if name in _MOVES or not _carries([result]):
            return result
        hint = "the product of two activations has no rule" if name in _FACTORS else _HINTS.get(name)
        raise ValueError(
            f"LRP: found {name} in {self._inside[-1]}, expected convolutions, linear layers, ReLU, pooling, dropout, "
            f"additions and reshaping; {hint or 'take a method by gradients, such as integrated_gradients'}"
        )

    def _layer(self, name: str, function: Callable, a: Tensor, weight: Tensor, bias=None, *rest, **options) -> Tensor:
        rule = self.input_layer if self._first else self.rules[name]
        self._first = False
        nothing = weight.new_zeros(len(weight)) if bias is None else bias

        def apply(a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return function(a, weight, bias, *rest, **options)

        def back(a: Tensor, relevance_out: Tensor) -> Tensor:
            transposed = _transposed(apply, a)
            return relevance_below(rule, a, relevance_out, self.epsilon, apply, transposed, weight, nothing)

        return _Linear.apply(a, lambda a: apply(a, weight, bias), back)

    def _linear_in_one(self, function: Callable, args: tuple, kwargs: dict) -> Tensor:
        """A function without weights that is linear in the one argument that carries relevance."""
        place = next(index for index, value in enumerate(args) if _carries([value]))

        def apply(a: Tensor, weight: Any = None, bias: Any = None) -> Tensor:
            return function(*args[:place], a, *args[place + 1 :], **kwargs)

        def back(a: Tensor, relevance_out: Tensor) -> Tensor:
            return relevance_below("epsilon", a, relevance_out, self.epsilon, apply, _transposed(apply, a), None, None)

        return _Linear.apply(args[place], apply, back)

    @staticmethod
    def _normalised(function: Callable, a: Tensor, *rest, **options) -> Tensor:
        """Batch normalisation with running statistics, an affine function of each number."""
        offset = function(torch.zeros_like(a[:1]), *rest, **options)

        def back(a: Tensor, relevance_out: Tensor) -> Tensor:
            scaled = (function(a, *rest, **options) - offset).abs()
            return relevance_out * quotient(scaled, scaled + offset.abs())

        return _Linear.apply(a, lambda a: function(a, *rest, **options), back)

    @staticmethod
    def _one_carries(name: str, args: tuple, kwargs: dict) -> bool:
        divides = name in ("div", "divide", "__truediv__")
        one = sum(_carries([value]) for value in args) == 1 and not _carries(kwargs.values())
        return one and (_carries([args[0]]) or not divides)


class _Start(torch.autograd.Function):
    """At the output of the network: the gradient of the scalar becomes relevance."""

    @staticmethod
    def forward(ctx, output, entered, images):
        ctx.save_for_backward(output)
        ctx.entered, ctx.images = entered, images
        return output.clone()

    @staticmethod
    def backward(ctx, gradient):
        relevance_out = ctx.saved_tensors[0] * gradient
        ctx.entered.append(relevance_out.reshape(ctx.images, -1).sum(1))
        return relevance_out, None, None


class _Linear(torch.autograd.Function):
    """`apply`, with the backward pass `back(input, relevance)`."""

    @staticmethod
    def forward(ctx, a, apply, back):
        ctx.save_for_backward(a)
        ctx.back = back
        return apply(a)

    @staticmethod
    def backward(ctx, relevance_out):
        return ctx.back(ctx.saved_tensors[0], relevance_out), None, None


class _HandOn(torch.autograd.Function):
    """`apply`, number by number, each of which hands its relevance on."""

    @staticmethod
    def forward(ctx, a, apply):
        return apply(a)

    @staticmethod
    def backward(ctx, relevance_out):
        return relevance_out, None


class _Sum(torch.autograd.Function):
    """a + factor · b, relevance in proportion to the two summands; a constant keeps its share, as a bias does."""

    @staticmethod
    def forward(ctx, a, b, factor, epsilon):
        a, b = (v if isinstance(v, Tensor) else torch.tensor(v, dtype=o.dtype, device=o.device)
                for v, o in ((a, b), (b, a)))  # fmt: skip
        ctx.save_for_backward(a, b)
        ctx.factor, ctx.epsilon = factor, epsilon
        return a + factor * b

    @staticmethod
    def backward(ctx, relevance_out):
        a, b = ctx.saved_tensors
        summands = a, ctx.factor * b
        z = summands[0] + summands[1]
        share = quotient(relevance_out, z + torch.where(z >= 0, ctx.epsilon, -ctx.epsilon))
        needed = zip(summands, ctx.needs_input_grad, strict=False)
        return *((part * share).sum_to_size(part.shape) if need else None for part, need in needed), None, None


def _transposed(apply: Callable[..., Tensor], a: Tensor) -> Callable[[Tensor, Any], Tensor]:
    """What hands numbers from the output of the linear `apply` back to its input, of the shape of `a`."""

    def back(shares: Tensor, weight: Any) -> Tensor:
        with torch.enable_grad():
            start = torch.zeros_like(a).requires_grad_()
            return torch.autograd.grad(apply(start, weight, None), start, shares)[0]

    return back


def _carries(values: Iterable[Any]) -> bool:
    """Whether relevance flows through one of the values: weights ask for no gradient, the image does."""
    return any(value.requires_grad for value in _tensors(values))


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _check_values(found: Tensor, expected: Tensor) -> None:
    """A function that is called for what it does in place would be lost without a sign."""
    tolerance = torch.finfo(found.dtype).eps ** 0.5 * (1 + float(expected.abs().max()))
    if not torch.allclose(found, expected, rtol=0, atol=tolerance, equal_nan=True):
        raise ValueError(
            f"LRP: found the output {found.tolist()} while watching, expected {expected.tolist()}; the network is "
            "random, or calls a function such as relu_ or add_ without using what it returns"
        )
