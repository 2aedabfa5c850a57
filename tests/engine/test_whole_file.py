"""Files of weights are read once: what happens to them afterwards changes nothing any more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from known_classifier import save_classifier
from safetensors.torch import save_file

from plugin.engine.errors import InputError, ResourceError
from plugin.engine.models import whole_file
from plugin.engine.models.factory import create_model
from plugin.engine.models.model_file import load_classifier, load_model, save_model
from plugin.engine.models.weights_file import read_weights
