"""What the help enumerates, without the rooms that know it: those import PyTorch."""

from __future__ import annotations

from softhebb_fast.environment import VARIABLES

BACKENDS = ("auto", "reference", "cpp", "triton")
PRECISIONS = VARIABLES["SOFTHEBB_FAST_PRECISION"].values
MODES = ("successive", "consecutive", "simultaneous")
CLASSIFIERS = ("published", "ridge", "softmax")
CACHE_DTYPES = ("float32", "bfloat16", "float16")
DATA_SETS = ("mnist", "fashionmnist", "cifar10", "cifar100", "stl10", "imagenette", "imagenet")
LAYOUTS = ("CHW", "HWC")
NORMALISATIONS = ("off", "train", "imagenet")
INITS = (
    *("normal", "positive", "negative", "zerO", "hadamard_patches", "hadamard_taps"),
    *("identity_taps", "walsh_binary", "residue_binary", "random_binary", "identity"),
    *("partial_identity", "constant", "averaging", "zeros", "random_bias"),
)
FROM_DATA = ("patches", "kmeans")
NETWORKS = (
    *("perceptron", "mnist_cnn", "cifar_cnn", "resnet", "zero_resnet", "constnet", "leakynet"),
)
EXPERIMENTS = (
    *("table1", "table2", "figure1", "table5", "figure2", "softhebb", "collapse", "breakers"),
    *("schicho", "zero", "constnet", "symmetry", "rules", "record", "cifar100"),
)
SPACES = ("table3", "table4", "open", "starts", "whitened", "whitened_layer")
