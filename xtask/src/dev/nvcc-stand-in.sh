#!/bin/sh
# Stands in for nvcc where CUDA code is only type-checked: answers --version, leaves empty outputs.
out= dir= ptx=
for word; do
  case $take in
    out) out=$word ;;
    dir) dir=$word ;;
  esac
  take=
  case $word in
    --version) printf 'stand-in\n\n\nCuda compilation tools, release 13.0, V13.0.88\n'; exit ;;
    -o) take=out ;;
    --output-directory) take=dir ;;
    *.cu) source=$word ;;
  esac
done
if [ -z "$out" ]; then name=${source##*/}; out=$dir/${name%.cu}.ptx; fi
: > "$out"
