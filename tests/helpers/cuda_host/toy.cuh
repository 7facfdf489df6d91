// Small kernels with what kernels do right and wrong, to test the emulator itself.

extern "C" __global__ void reverse_block(const int* in, int* out)
{
    __shared__ int kept[64];
    kept[threadIdx.x] = in[blockIdx.x * 64 + threadIdx.x];
    __syncthreads();
    out[blockIdx.x * 64 + threadIdx.x] = kept[63 - threadIdx.x];
}

extern "C" __global__ void reverse_block_unsynchronized(const int* in, int* out)
{
    __shared__ int kept[64];
    kept[threadIdx.x] = in[blockIdx.x * 64 + threadIdx.x];
    out[blockIdx.x * 64 + threadIdx.x] = kept[63 - threadIdx.x];
}

template <class T> __device__ T from_the_next(T value)
{
    __shared__ T kept[64];
    kept[threadIdx.x] = value;
    __syncthreads();
    return kept[(threadIdx.x + 1) % 64];
}

extern "C" __global__ void unwritten_shared(const int* in, int* out)
{
    __shared__ int never;
    out[threadIdx.x] = from_the_next(in[threadIdx.x]);
    out[64 + threadIdx.x] = never;
    from_the_next<short>(0);
    __shared__ double wide[2][64];
    out[128 + threadIdx.x] = __double_as_longlong(wide[1][threadIdx.x]) >> 32;
}

template <class T> __device__ T from_the_next_unsynchronized(T value)
{
    __shared__ T kept[64];
    kept[threadIdx.x] = value;
    return kept[(threadIdx.x + 1) % 64];
}

extern "C" __global__ void unwritten_in_template(const int* in, int* out)
{
    out[blockIdx.x * 64 + threadIdx.x] = from_the_next_unsynchronized(in[threadIdx.x]);
}

extern "C" __global__ void shift_dynamic(const int* in, int* out)
{
    extern __shared__ int kept[];
    for (int turn = 0; turn < 3; ++turn) {
        kept[threadIdx.x] = turn == 0 ? in[threadIdx.x] : out[threadIdx.x];
        __syncthreads();
        out[threadIdx.x] = kept[(threadIdx.x + 1) % blockDim.x];
        __syncthreads();
    }
}

extern "C" __global__ void shift_dynamic_overtaking(const int* in, int* out)
{
    extern __shared__ int kept[];
    for (int turn = 0; turn < 3; ++turn) {
        kept[threadIdx.x] = turn == 0 ? in[threadIdx.x] : out[threadIdx.x];
        __syncthreads();
        out[threadIdx.x] = kept[(threadIdx.x + 1) % blockDim.x];
    }
}

extern "C" __global__ void shuffles(const int* in, int* out)
{
    int value = in[threadIdx.x];
    out[threadIdx.x] = __shfl_down_sync(0xffffffffu, value, 3);
    out[64 + threadIdx.x] = __shfl_up_sync(0xffffffffu, value, 3, 8);
    out[128 + threadIdx.x] = __shfl_xor_sync(0xffffffffu, value, 5, 16);
    out[192 + threadIdx.x] = __shfl_sync(0xffffffffu, value, 9, 8);
    out[256 + threadIdx.x] = (int)__ballot_sync(0xffffffffu, value % 3 == 0);
}

extern "C" __global__ void never_initialized(const int* in, int* out)
{
    int value;
    if (in[threadIdx.x] > 0) value = in[threadIdx.x];
    out[threadIdx.x] = value;
}

extern "C" __global__ void barrier_for_some(const int* in, int* out)
{
    if (threadIdx.x < 32) __syncthreads();
    out[threadIdx.x] = in[threadIdx.x];
}

extern "C" __global__ void barriers_apart(const int* in, int* out)
{
    if (threadIdx.x < 32) __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = in[threadIdx.x];
}

extern "C" __global__ void shuffle_for_some(const int* in, int* out)
{
    if (threadIdx.x % 2) out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, in[threadIdx.x], 2);
}

extern "C" __global__ void shuffle_from_outside(const int* in, int* out)
{
    if (threadIdx.x % 32 < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, in[threadIdx.x], 20);
}

extern "C" __global__ void writes_past_the_end(const int* in, int* out)
{
    out[threadIdx.x + 1] = in[threadIdx.x];
}

// Blocks wait for all others, then read what those have written; shared memory is still their own.
__device__ void meet(int* arrived, int expected)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicAdd(arrived, 1);
        while (*const_cast<volatile int*>(arrived) != expected) __nanosleep(20);
    }
    __syncthreads();
}

__device__ void take_from_the_next_block(const int* in, int* out, bool meets)
{
    __shared__ int kept[64];
    int size = gridDim.x * 64, place = blockIdx.x * 64 + threadIdx.x;
    kept[threadIdx.x] = in[place];
    out[place] = in[place];
    if (meets) meet(out + 2 * size, in[size]);
    out[size + place] = out[(place + 64) % size] + kept[63 - threadIdx.x];
}

extern "C" __global__ void wait_for_all(const int* in, int* out)
{
    take_from_the_next_block(in, out, true);
}

extern "C" __global__ void wait_for_nobody(const int* in, int* out)
{
    take_from_the_next_block(in, out, false);
}
