"""What can be chosen about a network, its losses, its images and its training; read from YAML. No torch here."""

from uresnet.config.conform import ConformSpec
from uresnet.config.settings import (
    AugmentConfig,
    BlockConfig,
    Config,
    LossConfig,
    ModelConfig,
    SegmenterConfig,
    Stage,
    TrainingConfig,
    config_from_dict,
    load_config,
    model_config_from_dict,
    segmenter_config_from_dict,
    to_dict,
)

__all__ = [
    "AugmentConfig",
    "BlockConfig",
    "Config",
    "ConformSpec",
    "LossConfig",
    "ModelConfig",
    "SegmenterConfig",
    "Stage",
    "TrainingConfig",
    "config_from_dict",
    "load_config",
    "model_config_from_dict",
    "segmenter_config_from_dict",
    "to_dict",
]
