"""The packages of the extra `train`. All of fused_gan needs them, except the operator and its layers."""

TRAIN = {  # package: its module. pyproject.toml has the versions.
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
