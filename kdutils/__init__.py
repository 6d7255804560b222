"""kdutils: knowledge distillation, small and tested. The code behind *Knowledge Distillation, Measured*."""

from .data import Batch, DataError, DigitData, Split, batches, load_dataset
from .diagnose import Diagnosis, check_distillation
from .evaluate import (
    Interval,
    Latency,
    accuracy,
    agreement,
    count_errors,
    count_multiply_adds,
    expected_calibration_error,
    latency,
    mean_interval,
    negative_log_likelihood,
    predict_logits,
)
from .losses import LossParts, distillation_loss, kd_loss, soften
from .models import CNN, MLP, ConvNet, Ensemble, count_parameters
from .results import (
    ResultsError,
    environment,
    load_model,
    load_results,
    save_model,
    save_results,
)
from .train import (
    History,
    TrainConfig,
    TrainingError,
    cache_logits,
    distill,
    fit,
    freeze,
    hard_loss,
    pick_device,
)
from .views import random_shift, random_warp

__version__ = "0.1.0"
__all__ = [
    "CNN",
    "MLP",
    "Batch",
    "ConvNet",
    "DataError",
    "Diagnosis",
    "DigitData",
    "Ensemble",
    "History",
    "Interval",
    "Latency",
    "LossParts",
    "ResultsError",
    "Split",
    "TrainConfig",
    "TrainingError",
    "accuracy",
    "agreement",
    "batches",
    "cache_logits",
    "check_distillation",
    "count_errors",
    "count_multiply_adds",
    "count_parameters",
    "distill",
    "distillation_loss",
    "environment",
    "expected_calibration_error",
    "fit",
    "freeze",
    "hard_loss",
    "kd_loss",
    "latency",
    "load_dataset",
    "load_model",
    "load_results",
    "mean_interval",
    "negative_log_likelihood",
    "pick_device",
    "predict_logits",
    "random_shift",
    "random_warp",
    "save_model",
    "save_results",
    "soften",
]
