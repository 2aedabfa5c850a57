#!/bin/bash
# All checks that need a GPU, in less than 8 minutes, those that matter most first:
#
#     TERRAZZO_PYTHON=… benchmarks/gpu_check.sh [cuda]
#
# prints the card, and then
# - loop: the training loop beside the limit in batches of 64, 16 and 128, cuDNN's search and channels first, and the operations
#   that take the most time in a step;
# - tests: tests/engine/test_gpu.py (among them: two deterministic trainings are equal, no step waits, a rank of torchrun exchanges
#   through nccl);
# - maps: mapping beside the bare network, and what reading, network and writing took;
# - fcn, cached: the loop with another network beside a DataLoader, and with chips in a cache.
#
# Each runs whether or not those before it have succeeded. A summary follows, and the exit status is 0 if all of them have. All output
# is also kept in the folder $OUT, if that is set. Python is the worker's; it needs pytest as well. With `cpu` in place of `cuda` the
# same commands run on small inputs, which shows that they work.
set -u
cd "$(dirname "$0")/.."
python=${TERRAZZO_PYTHON:-python3}
device=${1:-cuda}
export OMP_WAIT_POLICY=PASSIVE PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
logs=${OUT:-$(mktemp -d)}

if [ "$device" = cuda ]; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || exit 1
  "$python" -c 'import torch; print("PyTorch", torch.__version__); torch.ones(1, device="cuda")' || exit 1
  patience=1 batches="64 16 128" many="--chips 2048 --turns 3" few="--batch 64 --chips 1024 --turns 1"
  raster="--size 10000 --tall 10 --seconds 6 --turns 1 --networks c d b"
else
  patience=10 batches="2" many="--chips 4 --turns 1 --size 64" few="--batch 2 --chips 4 --turns 1 --size 64"
  raster="--size 2048 --tall 2 --seconds 1 --turns 1 --steps 2 --networks a"
fi

status=0 summary=""
run() {  # a name, the longest time in seconds, and a command
  local begun=$SECONDS code
  echo "== $1"
  timeout $(($2 * patience)) "${@:3}" 2>&1 | tee "$logs/$1.log"
  code=${PIPESTATUS[0]}
  [ "$code" = 0 ] || status=1
  summary+="$1: $([ "$code" = 0 ] && echo passed || echo "FAILED ($code)") in $((SECONDS - begun)) s"$'\n'
}

run loop 140 "$python" -m benchmarks.train --device $device --batch $batches $many --networks unet,resnet34 \
  --presets none standard --without-loader --profile
run tests 120 "$python" -m pytest -v -rP --tb=short -p no:cacheprovider tests/engine/test_gpu.py
run maps 150 "$python" -m benchmarks.segment_raster --device $device $raster --contenders terrazzo bare
run fcn 35 "$python" -m benchmarks.train --device $device $few --networks fcn,resnet50 --presets standard --without-limits
run cached 35 "$python" -m benchmarks.train --device $device $few --networks unet,resnet34 --presets standard --cached --without-loader \
  --without-limits

echo "== summary"
echo -n "$summary"
grep -hE '^(loop|limit|DataLoader|[a-z0-9]+ with|terrazzo|tiles of|bare|\([a-d]\)|all )|FAILED|ERROR|passed|failed|DETERMINISTIC' "$logs"/*.log
exit $status
