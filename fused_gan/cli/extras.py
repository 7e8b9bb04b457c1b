"""The packages of the extra `train`, which everything but the operator and its layers needs."""

TRAIN = {  # package: the module that is imported from it. pyproject.toml says which versions.
    "numpy": "numpy",
    "pillow": "PIL",
    "rich": "rich",
    "tyro": "tyro",
    "safetensors": "safetensors",
    "mlxtend": "mlxtend",
    "accelerate": "accelerate",
    "matplotlib": "matplotlib",
    "tensorboard": "tensorboard",
    "torchmetrics": "torchmetrics",
}
