#!/usr/bin/env bash
# All that can only be seen on a GPU, in ten minutes at most; each line says what was to be met and whether it was.
#
#     tests/benchmarks/gpu.sh            on cuda
#     tests/benchmarks/gpu.sh cpu        what a processor can do of it, in small: that the script itself is sound
#
# PYTHON names the interpreter that retune is installed for. What the ten minutes cut short has been printed by then.
set -euo pipefail
cd "$(dirname "$0")/../.."
device=${1:-cuda}
sizes=(--pictures 4096 --images 600)
if [ "$device" = cpu ]; then
    sizes=(--pictures 64 --images 120)
fi
export PYTHONUNBUFFERED=1
timeout --kill-after=10 585 "${PYTHON:-python}" tests/benchmarks/bench_gpu.py \
    --device "$device" "${sizes[@]}" --strategies re-tune,adaptor,lora || {
    code=$?
    [ "$code" != 124 ] || echo "cut short after ten minutes; what stands above was measured"
    exit "$code"
}
