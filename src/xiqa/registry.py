"""What has a name: saliency methods, architectures, formats of data sets, scores. Each has one entry in one table.

An entry is data: the module that it names is loaded when the name is used. Another package adds entries by entry points
of the groups `xiqa.methods`, `xiqa.readers` and `xiqa.scores`, whose objects are a `Method`, a `Layout` or a `Score`;
CONTRIBUTING.md shows how.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple


class Method(NamedTuple):
    """A saliency method.

    Attributes:
        module: module of `xiqa.saliency` (or, with a dot, any module) that makes its maps; methods of one module share
            their passes.
        label: its name as figures print it.
        what: what its map says, in one sentence.
        at_layers: it looks at the output of layers.
        falling: its map falls where a pixel speaks for the class; scores and peaks take its negative.
        control: it knows nothing of the network.
        needs: what a network must have: "relu", "attention", or nothing.
        linear: its map of a mean of outputs is the mean of its maps of each.
    """

    module: str
    label: str
    what: str
    at_layers: bool = False
    falling: bool = False
    control: bool = False
    needs: str = ""
    linear: bool = False


class Architecture(NamedTuple):
    """An architecture of `xiqa.models.zoo`.

    Attributes:
        options: options of our own architectures, for which there are no ImageNet weights; the others have none.
        smallest_px: smallest side of its images.
        relu: methods that change the backward pass of ReLUs can explain it.
    """

    options: tuple[str, ...] = ()
    smallest_px: int = 32
    relu: bool = True


class Layout(NamedTuple):
    """A layout of the files of a data set, read by the module of its name in `xiqa.datasets`.

    Attributes:
        classes: how many classes it has; 0: as many as its files, or the key `classes`, name.
        twin: a simulated twin is written where no path is given, by the module of its name in `xiqa.datasets.twins`.
        targets: its images can have targets, numbers that a regression predicts.
        official_parts: its files say which part an image belongs to.
        module: full name of the module that reads it; "": the one of its name.
    """

    classes: int = 0
    twin: bool = False
    targets: bool = False
    official_parts: bool = False
    module: str = ""


class Score(NamedTuple):
    """A score of one map (h, w) against its ground truth (h, w) bool, a function of the name of the score.

    Attributes:
        module: module of `xiqa.metrics.maps` (or, with a dot, any module) that holds the function.
        table: the table of a study that has it.
        undefined: why it has no value, where others of the same map have one.
        lower_is_better: less is better.
    """

    module: str
    table: str = "relevance"
    undefined: str = "not defined for this map"
    lower_is_better: bool = False


METHODS: dict[str, Method] = {
    "gradient": Method("one_pass", "gradient", "how the output changes with each pixel", linear=True),
    "input_x_gradient": Method(
        "one_pass", "input × gradient", "pixel times gradient: its share in a first-order model", linear=True
    ),
    "grad_cam": Method("one_pass", "Grad-CAM", "maps of a layer, weighted by their mean gradient", at_layers=True),
    "normgrad_scaling": Method(
        "one_pass", "NormGrad scaling", "norm over channels of activation times gradient at a layer", at_layers=True
    ),
    "normgrad_conv1x1": Method(
        "one_pass", "NormGrad conv1×1", "norm of the activation times norm of the gradient at a layer", at_layers=True
    ),
    "normgrad_conv3x3": Method(
        "one_pass",
        "NormGrad conv3×3",
        "norm of the activation's 3 x 3 window times norm of the gradient at a layer",
        at_layers=True,
    ),
    "normgrad_scaling_multi": Method(
        "one_pass",
        "NormGrad scaling multi",
        "normgrad_scaling of several layers, joined by the geometric mean",
        at_layers=True,
    ),
    "normgrad_conv1x1_multi": Method(
        "one_pass",
        "NormGrad conv1×1 multi",
        "normgrad_conv1x1 of several layers, joined by the geometric mean",
        at_layers=True,
    ),
    "normgrad_conv3x3_multi": Method(
        "one_pass",
        "NormGrad conv3×3 multi",
        "normgrad_conv3x3 of several layers, joined by the geometric mean",
        at_layers=True,
    ),
    "guided_backprop": Method(
        "relu_backward",
        "guided backprop.",
        "gradient in which each ReLU lets only positive gradients of active units through",
        needs="relu",
    ),
    "deconvolution": Method(
        "relu_backward",
        "deconvolution",
        "gradient in which each ReLU lets only positive gradients through",
        needs="relu",
    ),
    "guided_grad_cam": Method(
        "relu_backward", "guided Grad-CAM", "guided backpropagation times Grad-CAM", at_layers=True, needs="relu"
    ),
    "smoothgrad": Method(
        "smoothgrad", "SmoothGrad", "mean of the gradient over noisy copies of the image", linear=True
    ),
    "smoothgrad_squared": Method(
        "smoothgrad", "SmoothGrad squared", "mean of the squared gradient over noisy copies of the image"
    ),
    "integrated_gradients": Method(
        "gradient_paths",
        "integrated gradients",
        "gradient along the straight line from a baseline, adds up to the change of the output",
        linear=True,
    ),
    "integrated_gradients_bw": Method(
        "gradient_paths",
        "integrated gradients black & white",
        "mean of integrated gradients from black and from white",
        linear=True,
    ),
    "expected_gradients": Method(
        "expected_gradients", "expected gradients", "integrated gradients from many reference images", linear=True
    ),
    "guided_ig": Method(
        "guided_ig", "guided IG", "integrated gradients on a path that moves the pixels with small gradients first"
    ),
    "blur_ig": Method("blur_ig", "blur IG", "integrated gradients on a path of less and less blur", linear=True),
    "xrai": Method("xrai", "XRAI", "regions of the image, ranked by their attribution, each on its new pixels"),
    "xrai_fast": Method("xrai", "XRAI (fast)", "regions of the image, ranked by their attribution once"),
    "occlusion": Method(
        "occlusion", "occlusion", "change of the output when a patch is wiped out", falling=True, linear=True
    ),
    "occlusion_pixel": Method(
        "occlusion_pixel",
        "occlusion (pixel)",
        "change of the output when one pixel is wiped out",
        falling=True,
        linear=True,
    ),
    "rise": Method("rise", "RISE", "mean of random masks, weighted by the output behind them", linear=True),
    "score_cam": Method(
        "score_cam",
        "Score-CAM",
        "maps of a layer, weighted by the output of the image seen through them",
        at_layers=True,
    ),
    "lrp": Method("lrp", "LRP", "relevance of the output, handed down layer by layer", linear=True),
    "omig": Method("omig", "OMIG", "change of the image on the way to a higher output"),
    "kernel_shap": Method("shap_lime", "KernelSHAP", "Shapley values of superpixels"),
    "lime": Method("shap_lime", "LIME", "a sparse linear model of superpixels"),
    "attention_rollout": Method(
        "attention",
        "attention rollout",
        "which patches of a transformer flow into its output through the attention of all layers",
        needs="attention",
    ),
    "gradient_attention_rollout": Method(
        "attention",
        "gradient attention rollout",
        "the same with each attention weighted by its gradient: for the class that is asked",
        needs="attention",
    ),
    "random": Method("controls", "random", "control: random numbers", control=True),
    "centre_prior": Method("controls", "centre prior", "control: a Gaussian at the centre of the image", control=True),
    "edges": Method("controls", "edges", "control: strength of the image's edges", control=True),
}
"""Methods of `xiqa.saliency.attribute`, for any torch module."""
ARCHITECTURES: dict[str, Architecture] = {
    "small_resnet": Architecture(options=("blocks", "first_pooling", "width")),
    "small_vgg": Architecture(options=("width",)),
    "resnet34": Architecture(),
    "resnet50": Architecture(),
    "efficientnet_b0": Architecture(relu=False),
    "vgg16": Architecture(),
    "vgg19": Architecture(),
    "resnet50v2": Architecture(),
    "densenet121": Architecture(),
    "xception": Architecture(),
    "inception_v3": Architecture(smallest_px=75),
    "inception_resnet_v2": Architecture(smallest_px=75),
}
LAYOUTS: dict[str, Layout] = {
    "object_cxr": Layout(classes=2, twin=True, official_parts=True),
    "lvot": Layout(classes=2, twin=True),
    "brain_tumor": Layout(classes=3, twin=True),
    "brain_tumor_jpg": Layout(classes=3),
    "covid_cxr": Layout(twin=True),
    "ct_contrast": Layout(classes=2, twin=True),
    "mri_quality": Layout(twin=True, targets=True, official_parts=True),
    "folder": Layout(targets=True, official_parts=True),
}

SCORES: dict[str, Score] = {
    "relevance_mass": Score("relevance", undefined="no positive value"),
    "relevance_rank": Score("relevance"),
    "roc_auc": Score("roc_auc", table="roc_auc", undefined="no background"),
    "iou": Score("overlap"),
}
"""Scores of maps that need nothing but map and ground truth; those with options of their own are in `localisation`."""

MEASURES = (
    "noise", "spectral_slope", "median_frequency", "motion", "mean", "sd", "skewness", "kurtosis", "entropy", "p10",
    "p90", "mad", "glcm_contrast", "glcm_energy", "glcm_correlation", "glcm_homogeneity", "contrast_to_noise",
    "size_px", "diameter_mm",
)  # fmt: skip
"""Names of the measures of image quality, see `metrics.measures`."""

# What stages need of the tables: with the one column that they use, they rest on nothing else of them.
MODULES = {name: entry.module for name, entry in METHODS.items()}
FALLING = frozenset(name for name, entry in METHODS.items() if entry.falling) | {"occlusion_smooth"}
CONTROLS = tuple(name for name, entry in METHODS.items() if entry.control)
LAYERED = frozenset(name for name, entry in METHODS.items() if entry.at_layers)
LINEAR = {name: entry.linear for name, entry in METHODS.items()}
OF_ONE_NETWORK = {name: entry.at_layers or bool(entry.needs) for name, entry in METHODS.items()}
"""Whether a method looks inside a network, which the mean of several has not."""
OF_ENSEMBLES = tuple(name for name, inside in OF_ONE_NETWORK.items() if not inside and name != "expected_gradients")
"""Methods that a study can ask of the mean curve of an ensemble; expected gradients want reference images."""
OF_TRANSFORMERS = tuple(name for name, entry in METHODS.items() if entry.needs == "attention")
WITHOUT_RELU = frozenset(name for name, entry in ARCHITECTURES.items() if not entry.relu)
WITH_TWIN = tuple(name for name, entry in LAYOUTS.items() if entry.twin)
WITH_TARGETS = tuple(name for name, entry in LAYOUTS.items() if entry.targets)
WITH_OFFICIAL_PARTS = tuple(name for name, entry in LAYOUTS.items() if entry.official_parts)

PUBLISHED_MAPS: dict[str, tuple[str, ...]] = {
    "input_x_gradient": ("input_x_gradient",),
    "guided_backprop": ("gradient",),
    "guided_grad_cam": ("gradient", "grad_cam"),
}
"""Methods whose map in the code of Özer is another one than ours -> the maps that it is made of."""
# Groups of methods that the papers compare.
SINGLE = ("normgrad_scaling", "normgrad_conv1x1", "normgrad_conv3x3")
MULTI = tuple(f"{method}_multi" for method in SINGLE)
GRADIENT_BASELINES = ("input_x_gradient", "guided_backprop", "guided_grad_cam")
BASELINES = (*GRADIENT_BASELINES, "grad_cam")
SMOOTHGRADS = ("smoothgrad_squared", "smoothgrad")
INTEGRATED = ("integrated_gradients_bw", "integrated_gradients")
OTHERS_BROCKI = ("gradient", "expected_gradients", "deconvolution")
METHODS_BROCKI = (*SMOOTHGRADS, *INTEGRATED, *OTHERS_BROCKI)
METHODS_BRIMA = ("gradient", "smoothgrad", "integrated_gradients", "guided_ig", "blur_ig")


def base_method(name: str) -> str:
    """The method or family of which a name is a variant, such as guided_ig of guided_ig_smooth; itself if of none."""
    return name.removesuffix("_smooth").removesuffix("_top")


@cache
def added(group: str) -> dict[str, Any]:
    """Entries of other packages, by name; loaded when a name is asked for that is in no table here.

    Args:
        group: "xiqa.methods", "xiqa.readers" or "xiqa.scores".
    """
    from importlib.metadata import entry_points

    return {point.name: point.load() for point in entry_points(group=group)}


def _entry(what: str, name: str, own: dict[str, Any], group: str) -> Any:
    """What a table has under a name, or another package adds; a ValueError that lists the table otherwise."""
    found = own.get(name) or added(group).get(name)
    if found is None:
        raise ValueError(f"{what}: found '{name}', expected one of {', '.join(own)}")
    return found


def method_of(name: str) -> Method:
    """The entry of a saliency method, also of another package's; a ValueError if there is none."""
    return _entry("method", name, METHODS, "xiqa.methods")


def module_of(name: str) -> str:
    """Full name of the module that makes the maps of a method, also of another package's; a ValueError without.

    It looks at one column of the table: what only needs the module rests on nothing else of it.
    """
    found = _entry("method", name, MODULES, "xiqa.methods")
    module = found if isinstance(found, str) else found.module
    return module if "." in module else f"xiqa.saliency.{module}"


def layout_of(name: str) -> Layout:
    """The entry of a format (layout of files), also of another package's; a ValueError if there is none."""
    return _entry("format", name, LAYOUTS, "xiqa.readers")


def reader_module(name: str) -> str:
    """Full name of the module that reads a format."""
    return layout_of(name).module or f"xiqa.datasets.{name}"


def scores() -> dict[str, Score]:
    """All scores that need nothing but a map and its ground truth, those of other packages at the end."""
    return SCORES | added("xiqa.scores")


def score_module(name: str) -> str:
    """Full name of the module of a score; a ValueError if there is none."""
    module = _entry("score", name, SCORES, "xiqa.scores").module
    return module if "." in module else f"xiqa.metrics.maps.{module}"
