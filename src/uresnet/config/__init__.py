"""What can be chosen about a network, its losses, its images and its training; read from YAML. No torch here.

``conform`` and ``model`` describe a network, ``training`` everything else that a training needs, ``loading`` reads.
"""

from uresnet.config.conform import ConformSpec
from uresnet.config.loading import (
    config_from_dict,
    conform_spec_from_dict,
    load_config,
    model_config_from_dict,
    segmenter_config_from_dict,
    to_dict,
)
from uresnet.config.model import ModelConfig, SegmenterConfig
from uresnet.config.training import (
    AbnormalConfig,
    AugmentConfig,
    BlockConfig,
    Config,
    ContrastConfig,
    HeadConfig,
    LossConfig,
    Stage,
    TrainingConfig,
)

__all__ = [
    "AbnormalConfig",
    "AugmentConfig",
    "BlockConfig",
    "Config",
    "ConformSpec",
    "ContrastConfig",
    "HeadConfig",
    "LossConfig",
    "ModelConfig",
    "SegmenterConfig",
    "Stage",
    "TrainingConfig",
    "config_from_dict",
    "conform_spec_from_dict",
    "load_config",
    "model_config_from_dict",
    "segmenter_config_from_dict",
    "to_dict",
]
