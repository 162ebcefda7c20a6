#!/bin/sh
# build.sh FOLDER [driver|test|both]: builds there libcuda.so.1, a driver whose devices are this processor, or
# kernels-test, the kernels against plain loops. CXX is the compiler; tried with g++ 12.
set -eu
out=$1
what=${2:-driver}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
flags="-std=c++20 -O2 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Wno-unknown-pragmas -DISOFLOP_EMULATOR"
# Only the calls of this instrumentation are wanted, not its library; and no pass that hides accesses in calls.
watched="-fsanitize=thread -fsanitize=bounds,shift,signed-integer-overflow -fsanitize-undefined-trap-on-error -fno-tree-vectorize -fno-tree-loop-distribute-patterns"
cxx=${CXX:-g++}
cd "$here"
parts="memory block driver"
compiling=
case $what in driver | both)
    $cxx $flags $watched -c kernels.cpp -o "$out/kernels.o" &
    compiling=$!
    ;;
esac
case $what in test | both)
    $cxx $flags $watched -DISOFLOP_PLANTED -c kernels.cpp -o "$out/kernels-planted.o" &
    compiling="$compiling $!"
    parts="$parts test_main test_gemm test_attention test_rows test_update test_conv test_planted test_driver"
    ;;
esac
for part in $parts; do $cxx $flags -c $part.cpp -o "$out/$part.o"; done
for job in $compiling; do wait "$job"; done
cd "$out"
if nm -u kernels*.o | grep -E 'mem(cpy|set|move)'; then
    echo "the compiler hides accesses of kernels in these calls" >&2
    exit 1
fi
case $what in driver | both)
    $cxx -shared -Wl,-soname,libcuda.so.1 kernels.o memory.o block.o driver.o -o libcuda.so.1
    ;;
esac
case $what in test | both)
    $cxx kernels-planted.o memory.o block.o driver.o test_*.o -o kernels-test
    ;;
esac
rm -f ./*.o
