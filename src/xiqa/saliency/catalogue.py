"""What there is: the saliency methods by name, and the options of each."""

from __future__ import annotations

import inspect

import pandas as pd

from xiqa.config import ATTRIBUTIONS, FALLING
from xiqa.saliency.attribution import COMMON, LAYERED, checked_method, options_of_family

WHAT: dict[str, str] = {
    "gradient": "how the output changes with each pixel",
    "input_x_gradient": "pixel times gradient: its share in a first-order model",
    "grad_cam": "maps of a layer, weighted by their mean gradient",
    "normgrad_scaling": "norm over channels of activation times gradient at a layer",
    "normgrad_conv1x1": "norm of the activation times norm of the gradient at a layer",
    "normgrad_conv3x3": "norm of the activation's 3 x 3 window times norm of the gradient at a layer",
    "normgrad_scaling_multi": "normgrad_scaling of several layers, joined by the geometric mean",
    "normgrad_conv1x1_multi": "normgrad_conv1x1 of several layers, joined by the geometric mean",
    "normgrad_conv3x3_multi": "normgrad_conv3x3 of several layers, joined by the geometric mean",
    "guided_backprop": "gradient in which each ReLU lets only positive gradients of active units through",
    "deconvolution": "gradient in which each ReLU lets only positive gradients through",
    "guided_grad_cam": "guided backpropagation times Grad-CAM",
    "smoothgrad": "mean of the gradient over noisy copies of the image",
    "smoothgrad_squared": "mean of the squared gradient over noisy copies of the image",
    "integrated_gradients": "gradient along the straight line from a baseline, adds up to the change of the output",
    "integrated_gradients_bw": "mean of integrated gradients from black and from white",
    "expected_gradients": "integrated gradients from many reference images",
    "guided_ig": "integrated gradients on a path that moves the pixels with small gradients first",
    "blur_ig": "integrated gradients on a path of less and less blur",
    "xrai": "regions of the image, ranked by their attribution, each on its new pixels",
    "xrai_fast": "regions of the image, ranked by their attribution once",
    "occlusion": "change of the output when a patch is wiped out",
    "rise": "mean of random masks, weighted by the output behind them",
    "score_cam": "maps of a layer, weighted by the output of the image seen through them",
    "lrp": "relevance of the output, handed down layer by layer",
    "omig": "change of the image on the way to a higher output",
    "kernel_shap": "Shapley values of superpixels",
    "lime": "a sparse linear model of superpixels",
    "attention_rollout": "which patches of a transformer flow into its output through the attention of all layers",
    "gradient_attention_rollout": "the same with each attention weighted by its gradient: for the class that is asked",
    "random": "control: random numbers",
    "centre_prior": "control: a Gaussian at the centre of the image",
    "edges": "control: strength of the image's edges",
}


def methods() -> pd.DataFrame:
    """The saliency methods that `attribute` takes.

    Returns:
        One row per method: method, family (methods of one family share their passes), at_layers (it looks at the
        output of layers), falls (its values fall where a pixel speaks for the class), what (one sentence).
    """
    rows = [
        {"method": name, "family": family, "at_layers": name in LAYERED, "falls": name in FALLING, "what": WHAT[name]}
        for name, family in ATTRIBUTIONS.items()
    ]
    return pd.DataFrame(rows)


def options(method: str) -> pd.DataFrame:
    """The options of a saliency method; the docstring of `module.maps` or `module.explain` has their meaning and unit.

    Returns:
        One row per option: option, default ("required" where there is none), type, of_all_methods.

    Raises:
        ValueError: no method has this name.
    """
    own = options_of_family(ATTRIBUTIONS[checked_method(method)])
    rows = [
        {
            "option": name,
            "default": "required" if parameter.default is inspect.Parameter.empty else parameter.default,
            "type": str(parameter.annotation),
            "of_all_methods": False,
        }
        for name, parameter in own.items()
    ]
    shared = [
        {"option": name, "default": default, "type": kind, "of_all_methods": True}
        for name, (default, kind) in COMMON.items()
    ]
    return pd.DataFrame([*rows, *shared])
