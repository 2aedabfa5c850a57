#!/bin/bash
# All checks that need a GPU, in less than 8 minutes:
#
#     TERRAZZO_PYTHON=… benchmarks/gpu_check.sh
#
# prints the card, runs the tests of tests/engine/test_gpu.py, and benchmarks/train.py and segment_raster.py on the GPU. Python is the
# worker's; it needs pytest as well. The exit status is 0 if all of it succeeded.
set -u
cd "$(dirname "$0")/.."
python=${TERRAZZO_PYTHON:-python3}
export OMP_WAIT_POLICY=PASSIVE PYTHONDONTWRITEBYTECODE=1

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || exit 1
"$python" -c 'import torch; print("PyTorch", torch.__version__); torch.ones(1, device="cuda")' || exit 1
status=0
timeout 170 "$python" -m pytest -q -rP --show-capture=stdout -p no:cacheprovider tests/engine/test_gpu.py || status=1
timeout 160 "$python" -m benchmarks.train --device cuda --batch 64 --chips 1024 --turns 3 || status=1
timeout 50 "$python" -m benchmarks.train --device cuda --batch 64 --chips 1024 --turns 1 --cached \
  --networks unet,resnet34 --presets standard || status=1
timeout 90 "$python" -m benchmarks.segment_raster --device cuda --size 10000 --tall 2 --networks c --turns 2 \
  --contenders terrazzo bare || status=1
exit $status
