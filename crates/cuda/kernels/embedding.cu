// Token and position embeddings.
#include "device.h"

/// x[r] = wte[tokens[r]] + wpe[r mod t], a block a row.
extern "C" __global__ void __launch_bounds__(128)
    embed_forward(const int *tokens, const float *wte, const float *wpe, float *x, int m, int t, int c) {
    long long row = blockIdx.x;
    if (row >= m) return;
    const float *token = wte + static_cast<long long>(tokens[row]) * c, *position = wpe + row % t * c;
    for (int i = threadIdx.x; i < c; i += 128) x[row * c + i] = token[i] + position[i];
}

/// dwte[ids[u]] += the gradients of the rows that hold that token, in order; a block a token.
extern "C" __global__ void __launch_bounds__(128)
    embed_backward_tokens(const float *dx, const int *order, const int *starts, const int *ids, float *dwte, int c) {
    int col = blockIdx.y * 128 + threadIdx.x;
    if (col >= c) return;
    int from = starts[blockIdx.x], to = starts[blockIdx.x + 1];
    float sum = 0.0f;
#pragma unroll 4
    for (int i = from; i < to; i++) sum += dx[static_cast<long long>(order[i]) * c + col];
    dwte[static_cast<long long>(ids[blockIdx.x]) * c + col] += sum;
}

/// dwpe[p] += Σ over sequences of dx, a block a position.
extern "C" __global__ void __launch_bounds__(128)
    embed_backward_positions(const float *dx, float *dwpe, int sequences, int t, int c) {
    int col = blockIdx.y * 128 + threadIdx.x;
    if (col >= c) return;
    long long at = static_cast<long long>(blockIdx.x) * c + col;
    float sum = 0.0f;
#pragma unroll 4
    for (int b = 0; b < sequences; b++) sum += dx[static_cast<long long>(b) * t * c + at];
    dwpe[at] += sum;
}
