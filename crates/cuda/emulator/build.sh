#!/bin/sh
# build.sh FOLDER: builds there libcuda.so.1, a driver whose only device is this processor, and kernels-test, the kernels
# against plain loops. CXX is the compiler (g++ or clang++).
set -eu
out=$1
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
flags="-std=c++20 -O2 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Wno-unknown-pragmas -DISOFLOP_EMULATOR"
# Only calls of the instrumentation's functions are wanted, not its library; no pass that hides accesses in calls of memcpy.
watched="-fsanitize=thread -fno-threadsafe-statics -fno-tree-vectorize -fno-tree-loop-distribute-patterns"
cxx=${CXX:-g++}
cd "$here"
$cxx $flags $watched -c kernels.cpp -o "$out/kernels.o" &
compiling=$!
$cxx $flags $watched -DISOFLOP_PLANTED -c kernels.cpp -o "$out/kernels-planted.o" &
compiling="$compiling $!"
for part in memory block driver test_main test_gemm test_attention test_rows test_update test_planted; do
    $cxx $flags -c $part.cpp -o "$out/$part.o"
done
for job in $compiling; do wait "$job"; done
cd "$out"
$cxx -shared -Wl,-soname,libcuda.so.1 kernels.o memory.o block.o driver.o -o libcuda.so.1
$cxx -fPIE kernels-planted.o memory.o block.o driver.o test_*.o -o kernels-test
rm -f ./*.o
