"""kdutils: knowledge distillation, small and tested. The code behind *Knowledge Distillation, Measured*."""

from .chunked import chunked_kd_loss
from .config import History, TrainConfig, pick_device, warmup
from .cost import Latency, count_multiply_adds, count_parameters, latency
from .data import Batch, Split, batches
from .datasets.digits import DataError, DigitData, load_dataset
from .diagnose import Diagnosis, check_distillation
from .evaluate import (
    Interval,
    accuracy,
    agreement,
    count_errors,
    expected_calibration_error,
    holm,
    mean_interval,
    negative_log_likelihood,
    paired_p_value,
    predict_logits,
)
from .forward import call_model, next_token
from .heads import binary_kd_loss, regression_kd_loss
from .losses import LossParts, distillation_loss, jsd_loss, kd_loss, reverse_kd_loss, soften
from .models import CNN, MLP, ConvNet, Ensemble
from .processes import TrainingError
from .results import (
    ResultsError,
    environment,
    load_model,
    load_results,
    save_model,
    save_results,
)
from .sharpness import spread, temperature_for, top_probability
from .targets import (
    SharedClasses,
    TopK,
    mix_teachers,
    shared_classes,
    top_k,
    top_k_from_probabilities,
    top_k_kd_loss,
)
from .train import cache_logits, distill, fit, freeze, hard_loss
from .views import random_flip, random_shift, random_warp

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
    "SharedClasses",
    "Split",
    "TopK",
    "TrainConfig",
    "TrainingError",
    "accuracy",
    "agreement",
    "batches",
    "binary_kd_loss",
    "cache_logits",
    "call_model",
    "check_distillation",
    "chunked_kd_loss",
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
    "holm",
    "jsd_loss",
    "kd_loss",
    "latency",
    "load_dataset",
    "load_model",
    "load_results",
    "mean_interval",
    "mix_teachers",
    "negative_log_likelihood",
    "next_token",
    "paired_p_value",
    "pick_device",
    "predict_logits",
    "random_flip",
    "random_shift",
    "random_warp",
    "regression_kd_loss",
    "reverse_kd_loss",
    "save_model",
    "save_results",
    "shared_classes",
    "soften",
    "spread",
    "temperature_for",
    "top_probability",
    "top_k",
    "top_k_from_probabilities",
    "top_k_kd_loss",
    "warmup",
]
