"""Every setting of a training run, written once: `TrainConfig`.

The command line is derived from its fields, a run keeps it as config.json, and a checkpoint carries it. What a
setting means stands in its help text and nowhere else.
"""
# ruff: noqa: RUF009  (`setting` is `dataclasses.field` with this package's metadata)

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, Interpolation, ResizeMode
from training.config import normalisation
from training.config.augmentations import SWITCHES
from training.config.fields import check, setting
from training.config.normalisation import Colours
from training.recipes import recipe as recipes
from training.tasks.choices import By, OnConflict, TaskChoice

Mode = Literal["probe", "finetune", "scratch"]
Optimizer = Literal["sgd", "nesterov", "rmsprop", "adam", "adamw"]
Schedule = Literal["constant", "step", "plateau", "cosine", "onecycle"]
Balance = Literal["none", "weights", "sampler"]
Device = Literal["auto", "cpu", "cuda"]
HeadInit = Literal["random", "probe"]
Select = Literal["best", "last"]
Loss = Literal["usual", "squared"]
Init = Literal["own", "normal", "standard", "xavier", "kaiming"]
Betas = tuple[float, float]
Amp = Literal["auto", "off", "bf16", "fp16"]
Baselines = Literal["none", "cheap", "all"]
UnknownChoice = Literal["auto", "energy", "distance", "none"]


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one run; see the help texts. Build it with `make`, which fills in the mode's defaults.

    Raises:
        ConfigError: If a setting is out of its range, or two contradict each other.
    """

    data: tuple[str, ...] = setting(
        help="image folder: DIR/train|val|test/CLASS/*, or DIR/CLASS/*, which is then split; or a folder of MNIST's "
        "idx files; or a CSV file, see training/data/csv_table.py, or the folder of a data set with its labels.csv; "
        "or several of these, which are one data set then"
    )
    output: str = setting(help="folder of the run: checkpoints, history, report and figures")
    task: TaskChoice = setting("auto", help="what to learn; auto: classes, or the numbers of --targets")
    targets: tuple[str, ...] = setting(
        (), help="columns of numbers to learn, with their units, such as angle:rad,throttle"
    )
    group_pattern: str | None = setting(
        None,
        help="regular expression for file names; images whose first group (or the one named group) is the same are "
        "never on both sides of the split",
    )
    classes: str | None = setting(
        None,
        help="file of the class names, one a line, in the order of the network's outputs; it also names classes that "
        "the data only number; by default they are sorted",
    )
    strict: bool = setting(False, help="refuse data with a single image that cannot be used; otherwise up to 5 %%")
    on_conflict: OnConflict = setting(
        "error",
        help="one picture under two labels or in two parts, and classes without images or missing from a part: error; "
        "drop all copies and such classes; or keep the first copy, of train if it is there, and the classes of train",
    )
    recipe: str = setting(
        recipes.NONE,
        help=f"settings to start from, what is given here wins: {', '.join(recipes.NAMES)}, or a file like those in "
        "training/recipes",
    )
    backbone: str = setting(
        "resnet18",
        help="any torchvision classifier by name, such as resnet50 or vgg16_bn, one of training/networks/classic.py, "
        "'layers: conv 16 3x3 p1, relu, pool 2x2, fc', as for training.inspect --layers; timm:NAME for those of timm "
        "(pip install timm); or FILE.py:FUNCTION, one of your own, see training/networks/libraries/own_module.py",
    )
    weights: str = setting(
        "imagenet", help="'imagenet' (downloaded by torchvision or timm), 'none', or a .pth/.safetensors"
    )
    feature_layer: str | None = setting(
        None, help="inner layer whose features the head sees, such as layer3 of a ResNet; by default the last"
    )
    grid: tuple[int, int] | None = setting(
        None,
        help="RxC: average the features in so many cells and give all to the last layer, which then knows where things "
        "are; by default the architecture's own head",
        low=1,
        high=64,
    )
    mode: Mode = setting(
        "finetune",
        help="probe: a linear layer on features of the frozen backbone (minutes on a CPU); finetune: head, then last "
        "stage, then all; scratch: all from the start",
    )
    epochs: int = setting(15, help="passes over the training images; for probe, most L-BFGS iterations", low=1)
    batch_size: int = setting(32, help="images per batch, of all processes together", low=2)
    input_size: tuple[int, int] = setting((224, 224), help="rows x columns of the network's input: HxW or N", low=8)
    resize_mode: ResizeMode = setting(
        "crop",
        help="crop: cover and cut the centre; letterbox: fit and pad; squash: all of it, as a steering angle needs",
    )
    crop_fraction: float | None = setting(
        None, help="share of the shorter side the centre crop keeps; 0.875 for crop, 1 otherwise", low=0.01, high=1
    )
    interpolation: Interpolation = setting("bilinear", help="antialiased filter of the resize")
    mean: Colours = setting(
        IMAGENET_MEAN,
        help="R,G,B subtracted from pixels in [0, 1]: as the --weights were trained, by default ImageNet's",
    )
    std: Colours = setting(IMAGENET_STD, help="R,G,B by which they are then divided: likewise")
    val_fraction: float = setting(
        0.2, help="share of each class held out for validation if there is no val folder", low=0.01, high=0.9
    )
    test_fraction: float = setting(0.0, help="share of each class held out for the final test", low=0, high=0.9)
    split: By = setting(
        "random", help="hold out random images of each class, or the tail: the last by row, or by file name in a class"
    )
    folds: int | None = setting(
        None,
        help="cross-validation: validate on one of so many parts of the training images, or on each in turn; val and "
        "test are not looked at",
        low=2,
        high=1000,
    )
    fold: int | None = setting(None, help="which of the folds, from 1; by default all, one after the other", low=1)
    seed: int = setting(0, help="seed of the split, the new head, the order and the augmentation", low=0, high=2**31)

    augment: tuple[str, ...] | None = setting(
        None,
        help=f"comma list of {', '.join(SWITCHES)} and the presets none, light (crop,flip,color) and classic "
        "(rotate,translate,scale,shear,stretch); leave out flip where left and right differ; by default light, and "
        "color alone for numbers",
        probe=False,
    )
    crop_area: float = setting(
        0.35,
        help="crop: smallest share of the image's area that is kept",
        low=0.01,
        high=1,
        probe=False,
        needs="augment=crop",
    )
    color_strength: float = setting(
        0.3,
        help="color: brightness, contrast and saturation change by up to this share",
        low=0,
        high=0.99,
        probe=False,
        needs="augment=color",
    )
    rotation_deg: float = setting(
        360.0, help="rotate: by up to this angle, either way", low=0, high=360, probe=False, needs="augment=rotate"
    )
    translate_px: float = setting(
        10.0,
        help="translate: by up to this many pixels of the network's input, either way",
        low=0,
        probe=False,
        needs="augment=translate",
    )
    scale_factor: float = setting(
        1.6, help="scale: log-uniform between 1/this and this", low=1, high=10, probe=False, needs="augment=scale"
    )
    shear_deg: float = setting(
        20.0, help="shear: by up to this angle, either way", low=0, high=80, probe=False, needs="augment=shear"
    )
    stretch_factor: float = setting(
        1.3,
        help="stretch: aspect ratio log-uniform between 1/this and this",
        low=1,
        high=10,
        probe=False,
        needs="augment=stretch",
    )
    randaugment_operations: int = setting(
        2, help="randaugment: operations an image", low=1, high=14, probe=False, needs="augment=randaugment"
    )
    randaugment_magnitude: int = setting(
        9, help="randaugment: their strength", low=0, high=30, probe=False, needs="augment=randaugment"
    )
    mixup: float = setting(
        0.0, help="blend pairs of images and labels, share from Beta(this, this); 0: off", low=0, high=100, probe=False
    )
    cutmix: float = setting(
        0.0, help="paste boxes of other images, area from Beta(this, this); 0: off", low=0, high=100, probe=False
    )
    balance: Balance = setting(
        "none", help="against rare classes: weights in the loss, or a sampler that shows them more often", probe=False
    )

    loss: Loss = setting(
        "usual",
        help="what is minimised; usual: cross-entropy of classes, Huber's loss of numbers; squared: half the squared "
        "distance of the outputs' sigmoids to the classes, of the outputs to the numbers",
        probe=False,
    )
    auxiliary_weight: float = setting(
        0.3,  # Source: Szegedy et al., Going Deeper with Convolutions, 2015, section 5
        help="share of the loss of each auxiliary classifier of a GoogLeNet that learns from --weights none; 0: none",
        low=0,
        high=1,
        probe=False,
        needs="backbone=googlenet_v1,googlenet and weights=none and not feature_layer and not grid",
    )
    optimizer: Optimizer = setting("adamw", help="nesterov is sgd with Nesterov momentum", probe=False)
    momentum: float = setting(
        0.9,
        help="of sgd, nesterov and rmsprop",
        low=0,
        high=0.9999,
        probe=False,
        needs="optimizer=sgd,nesterov,rmsprop",
    )
    rmsprop_alpha: float = setting(
        0.99,
        help="of rmsprop: share of the former mean square that a step keeps",
        low=0,
        high=0.999999,
        probe=False,
        needs="optimizer=rmsprop",
    )
    adam_betas: Betas = setting(
        (0.9, 0.999),
        help="of adam and adamw: shares of the former mean and mean square that a step keeps; onecycle moves the first",
        low=0,
        high=0.999999,
        probe=False,
        needs="optimizer=adam,adamw",
    )
    lr: float = setting(1e-3, help="learning rate of the head", low=1e-12, high=1e3, probe=False)
    lr_decay_per_stage: float = setting(
        0.1,
        help="finetune: the last stage learns at lr times this, everything below at lr times its square",
        low=1e-6,
        high=1,
        probe=False,
        needs="mode=finetune",
    )
    init: Init = setting(
        "own",
        help="how layers begin that get no --weights; own: as the architecture has it; normal: from N(0, 0.01), "
        "biases 1; standard: from N(0, 1), biases too; xavier and kaiming: biases 0",
        probe=False,
        needs="not head_init=probe",
    )
    head_init: HeadInit = setting(
        "random",
        help="how the last layer begins; probe: as what --mode probe finds on the training images, so that the layers "
        "below get no gradients of a random one",
        probe=False,
    )
    head_epochs: int | None = setting(
        None,
        help="finetune: first epochs, in which the head alone learns; up to 2 by default",
        low=0,
        probe=False,
        needs="mode=finetune",
    )
    last_stage_epochs: int | None = setting(
        None,
        help="finetune: epochs after those, in which head and last stage learn; up to 3 by default",
        low=0,
        probe=False,
        needs="mode=finetune",
    )
    freeze_norm: bool = setting(
        False,
        help="finetune: batch normalisation keeps the means and variances that came with the weights; those of small "
        "batches of few images are rough",
        probe=False,
    )
    adapt_norm: bool = setting(
        False,
        help="probe: batch normalisation takes the means and variances of the training images, in place of those that "
        "came with the weights, where cross-validation on these images says that it is better",
    )
    schedule: Schedule = setting("cosine", help="how the learning rate changes", probe=False)
    warmup_epochs: float | None = setting(
        None, help="epochs in which it rises; by default 5 %% of the epochs, 30 %% for onecycle", low=0, probe=False
    )
    step_epochs: int = setting(10, help="step: epochs between two falls", low=1, probe=False, needs="schedule=step")
    patience: int = setting(
        3, help="plateau: epochs without a lower validation loss to bear", low=0, probe=False, needs="schedule=plateau"
    )
    lr_gamma: float = setting(
        0.1, help="step, plateau: factor of one fall", low=1e-6, high=1, probe=False, needs="schedule=step,plateau"
    )
    weight_decay: float | None = setting(
        0.05, help="of weights, not of biases and norms; probe: L2 penalty, by default chosen by cross-validation",
        low=0, high=1e6,
    )  # fmt: skip
    dropout: float | None = setting(
        None, help="rate before the final layer; the architecture's own by default", low=0, high=0.99, probe=False
    )
    label_smoothing: float = setting(
        0.0,
        help="share of a label spread over all classes",
        low=0,
        high=0.9,
        probe=False,
        needs="not targets",
    )
    accumulate: int = setting(1, help="batches of which one step learns", low=1, probe=False)
    clip_norm: float = setting(0.0, help="largest norm of a step's gradient; 0: any", low=0, probe=False)
    ema: float = setting(
        0.0, help="decay a step of the averaged weights that are validated and kept, such as 0.999; 0: no average",
        low=0, high=0.999999, probe=False,
    )  # fmt: skip
    select: Select = setting(
        "best",
        help="which epoch best.pt holds: the best one by the validation images, whose own figure is then a little too "
        "good, or the last one, whatever they say",
        probe=False,
    )
    early_stop: int = setting(0, help="epochs without a better one after which to end; 0: never", low=0, probe=False)
    bad_steps: int = setting(
        3, help="steps in a row without a finite loss or gradient after which to give up", low=1, probe=False
    )
    teacher: tuple[str, ...] = setting(
        (),
        help="best.pt of a run whose network this one shall imitate, of any size and input; of several the mean of "
        "their scores",
        probe=False,
    )
    unlabelled: tuple[str, ...] = setting(
        (),
        help="folders of images, data sets, recordings: frames without labels to imitate the --teacher on, too; "
        "without any --data the classes are the teacher's, and agreement with it on frames held out is measured",
        probe=False,
        needs="teacher",
    )
    unlabelled_images: int = setting(
        20_000, help="most of these frames, evenly from all", low=2, high=10_000_000, probe=False, needs="unlabelled"
    )
    distil_weight: float = setting(
        0.5, help="share of the teacher in the loss", low=0, high=1, probe=False, needs="teacher"
    )
    distil_temperature: float = setting(
        4.0,
        help="softens the scores of the teacher and of the network that is compared",
        low=0.01,
        high=100,
        probe=False,
        needs="teacher",
    )

    unknown: UnknownChoice = setting(
        "auto",
        help="rule for images of none of the classes, fitted to the validation images: energy of the logits, or "
        "distance to the class centres; auto: what tells other images better, without any distance; beyond 200 classes "
        "energy; none: no rule, every image gets a class",
        needs="not targets",
    )
    false_alarm_rate: float = setting(
        0.05,
        help="share of the validation images that the rule may call unknown; 0 is no rule",
        low=0,
        high=0.5,
        needs="unknown=auto,energy,distance",
    )
    outside: str | None = setting(
        None,
        help="folder of images of none of the classes, on which the rule is measured, beside the images that a table "
        "calls 'none of these'; those of its training part choose between energy and distance",
        needs="unknown=auto,energy,distance",
    )

    baselines: Baselines = setting(
        "cheap",
        help="methods of before deep learning that the report compares the network with, fitted to the same images: "
        "cheap (colours, edges: seconds), or all, see training.baselines",
    )

    workers: int | None = setting(
        None, help="processes that load images; by default up to 2 on a CPU, up to 8 with a GPU", low=0, high=256
    )
    cache_gb: float = setting(
        4.0, help="decoded training images kept on the disk, in GB (10^9 bytes); 0: none", low=0, high=1e6, probe=False
    )
    cache_dir: str | None = setting(
        None,
        help="where they are kept, and stay for other runs; by default OUTPUT/cache, removed after the training",
        probe=False,
        needs="cache_gb",
    )
    device: Device = setting("auto", help="auto takes the GPU if there is one")
    amp: Amp = setting(
        "auto",
        help="mixed precision; auto: bf16 or else fp16 on a GPU, bf16 on a CPU where it is faster (AMX)",
        probe=False,
    )
    channels_last: bool = setting(True, help="memory layout; faster on CPUs and on GPUs with tensor cores")
    compile: bool = setting(False, help="training steps by torch.compile, if it can", probe=False)
    tensorboard: bool = setting(
        False, help="write history.csv for TensorBoard too (pip install tensorboard)", probe=False
    )
    find_lr: bool = setting(False, help="train nothing: suggest a learning rate, with lr_finder.png", probe=False)
    resume: bool = setting(False, help="continue the run in --output from its last checkpoint, with its settings")

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            check(field, hints[field.name], getattr(self, field.name))
        self._check_together()

    def _check_together(self) -> None:
        if self.unlabelled and not self.teacher:
            raise ConfigError("--unlabelled: images without labels teach nothing without a --teacher; name its best.pt")
        if self.folds and not self.data:
            raise ConfigError("--folds: there are no labels to measure folds with; leave it out")
        if not all(self.data) or not (self.data or self.unlabelled) or not self.output:
            raise ConfigError(f"--{'data' if self.output else 'output'}: must not be empty; name a folder")
        if self.fold and self.fold > (self.folds or 0):
            raise ConfigError(f"--fold: {self.fold} is none of --folds {self.folds or 0}; lower it or give --folds")
        if self.val_fraction + self.test_fraction > 0.9:
            raise ConfigError("--val-fraction and --test-fraction leave less than a tenth for training; lower them")
        if self.resize_mode != "crop" and self.crop_fraction not in (None, 1.0):
            raise ConfigError(f"--crop-fraction: needs --resize-mode crop, got {self.resize_mode}")
        normalisation.check(self.mean, self.std)
        if self.mode == "scratch" and self.weights != "none":
            raise ConfigError(f"--mode scratch starts from no weights, got --weights {self.weights}; use finetune")
        if self.mode == "scratch" and (self.head_init != "random" or self.freeze_norm):
            flag = "--freeze-norm" if self.freeze_norm else "--head-init probe"
            raise ConfigError(f"{flag} needs features to begin with, and --mode scratch has none; use finetune")
        if self.adapt_norm and self.mode != "probe":
            raise ConfigError(
                f"--adapt-norm is for --mode probe: --mode {self.mode} estimates the statistics itself; leave it out"
            )
        if self.select == "last" and self.early_stop:
            raise ConfigError("--early-stop ends by the validation images, --select last ignores them; leave out one")
        if (self.head_epochs or 0) + (self.last_stage_epochs or 0) > self.epochs:
            raise ConfigError(f"--head-epochs and --last-stage-epochs exceed --epochs {self.epochs}; lower them")
        if (self.warmup_epochs or 0) > self.epochs:
            raise ConfigError(f"--warmup-epochs: {self.warmup_epochs} exceeds --epochs {self.epochs}; lower it")

    @property
    def sources(self) -> tuple[Path, ...]:
        """The folders and tables of `data`."""
        return tuple(map(Path, self.data))

    @property
    def input(self) -> InputSpec:
        """The preprocessing that training, validation and the exported model share."""
        fraction = self.crop_fraction or (0.875 if self.resize_mode == "crop" else 1.0)
        return InputSpec(*self.input_size, self.resize_mode, fraction, self.interpolation, self.mean, self.std)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as JSON and a checkpoint keep them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}
