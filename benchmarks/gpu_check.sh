#!/bin/bash
# All checks that need a GPU, in less than 8 minutes:
#
#     TERRAZZO_PYTHON=… benchmarks/gpu_check.sh [cuda]
#
# prints the card, what a training step passes over (benchmarks/passes.py), runs the tests of tests/engine/test_gpu.py (among them:
# two deterministic trainings are equal, no step waits, a rank of torchrun exchanges through nccl), and benchmarks/train.py and
# segment_raster.py on the GPU: the ratios of the training loop in batches of 16, 64 and 128, and of mapping. Python is the worker's; it
# needs pytest as well. The exit status is 0 if all of it succeeded. With `cpu` in place of `cuda` the same commands run on small inputs,
# which shows that they work.
set -u
cd "$(dirname "$0")/.."
python=${TERRAZZO_PYTHON:-python3}
device=${1:-cuda}
export OMP_WAIT_POLICY=PASSIVE PYTHONDONTWRITEBYTECODE=1

if [ "$device" = cuda ]; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || exit 1
  "$python" -c 'import torch; print("PyTorch", torch.__version__); torch.ones(1, device="cuda")' || exit 1
  patience=1 batches="16 64 128" many="--chips 2048 --turns 3" few="--batch 64 --chips 1024 --turns 1" raster="--size 10000 --part 10000 --turns 2"
else
  patience=10 batches="2 4" many="--chips 4 --turns 1 --size 64" few="--batch 2 --chips 4 --turns 1 --size 64"
  raster="--size 1024 --turns 1 --steps 2"
fi

status=0
run() {  # the longest time in seconds, and a command
  local begun=$SECONDS
  timeout $(($1 * patience)) "${@:2}" || { echo "FAILED ($?): ${*:2}"; status=1; }
  echo "($((SECONDS - begun)) s)"
}

run 30 "$python" -m benchmarks.passes
run 150 "$python" -m pytest -q -rP --show-capture=stdout -p no:cacheprovider tests/engine/test_gpu.py
run 120 "$python" -m benchmarks.train --device $device --batch $batches $many --networks unet,resnet34 \
  --presets none standard --without-loader
run 45 "$python" -m benchmarks.train --device $device $few --networks fcn,resnet50 --presets standard
run 40 "$python" -m benchmarks.train --device $device $few --networks unet,resnet34 --presets standard --cached --without-loader
run 90 "$python" -m benchmarks.segment_raster --device $device $raster --networks a c --contenders terrazzo bare
exit $status
