#!/bin/sh
# The whole line, small: about six minutes on two cores with bfloat16, up to twice that without. Stopped at any point, the same command goes on.
#   OUT   folder of everything it makes (default: demo)
#   BIN   where cosmos-engine is (default: .venv/bin)
set -eu
OUT=${OUT:-demo}
ENGINE=${BIN:-.venv/bin}/cosmos-engine

say() { printf '\n== %s\n' "$*"; }

say "1/5 record 40 demos of lift"
"$ENGINE" record --task lift --episodes 40 --out "$OUT/demos"
say "2/5 augment: two variants of each with transfer25-tiny"
"$ENGINE" augment "$OUT/demos" --generator transfer25-tiny --variants 2 --out "$OUT/lift.zarr"
"$ENGINE" verify "$OUT/lift.zarr" --against "$OUT/demos"
say "3/5 train a diffusion policy on originals and variants"
"$ENGINE" train "$OUT/lift.zarr" --config demo --out "$OUT/bc"
say "4/5 benchmark it, as recorded and on table textures that it never saw"
"$ENGINE" benchmark "$OUT/bc" --task lift --shifts vanilla,table_texture --config demo --out "$OUT/bench"
say "5/5 report"
"$ENGINE" view "$OUT/lift.zarr" --recording "$OUT/demos" --benchmark "$OUT/bench/result.json" --out "$OUT/report.html"
printf '\nOpen %s\n' "$(cd "$OUT" && pwd)/report.html"
