// Design: threads of a channel merge by shuffles and through shared memory, in a tree that the block
// alone decides; ranges of a tile merge in the order of the ranges, by the block that comes last.

// -- merging the threads of a block --------------------------------------------------------------

// States are structs of doubles with a function merged(a, b).
template <class S> __device__ inline S shuffled_down(S state, int distance)
{
    double* words = reinterpret_cast<double*>(&state);
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(S) / sizeof(double)); ++i)
        words[i] = __shfl_down_sync(ALL_LANES, words[i], distance);
    return state;
}

// Merge, for each of K channels of a thread, the states of all threads of the block; the threads
// of row 0 get the result.
template <int K, class S> __device__ void merge_block(S (&mine)[K])
{
    __shared__ S others[MAX_THREADS / 64][K][32];
    int width = blockDim.x, thread = threadIdx.y * width + threadIdx.x;
    int lane = thread % 32, warp = thread / 32;
    for (int distance = 16; distance >= width; distance /= 2)
#pragma unroll
        for (int k = 0; k < K; ++k) mine[k] = merged(mine[k], shuffled_down(mine[k], distance));
    for (int half = width * blockDim.y / 64; half > 0; half /= 2) {
        if (warp >= half && warp < 2 * half && lane < width)
#pragma unroll
            for (int k = 0; k < K; ++k) others[warp - half][k][lane] = mine[k];
        __syncthreads();
        if (warp < half && lane < width)
#pragma unroll
            for (int k = 0; k < K; ++k) mine[k] = merged(mine[k], others[warp][k][lane]);
        __syncthreads(); // before the next round writes
    }
}

template <class S> __device__ S merged_block(S mine)
{
    S one[1] = {mine};
    merge_block(one);
    return one[0];
}

// Where row 0 of the state of a range and a channel is in parts (ranges, rows, C).
__device__ inline double* part_of(double* parts, int rows, long long channels, long long channel,
                                  long long range)
{
    return parts + range * rows * channels + channel;
}

// -- merging the ranges of a tile of channels ----------------------------------------------------

struct Finish {
    double* parts;         // (ranges, rows, C), then (groups, rows, C) where there are several
    int* counters;         // (tiles, 1 + groups) zeros, which are left as zeros
    long long group, groups; // ranges of a group
};

// Whether this block is the last of so many to come here; it sees what the others wrote.
__device__ inline bool is_last(int* counter, long long expected)
{
    __shared__ int last;
    __threadfence();
    __syncthreads();
    if (expected == 1) return true;
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        last = atomicAdd(counter, 1) == static_cast<int>(expected) - 1;
        if (last) *counter = 0;
    }
    __syncthreads();
    bool mine = last;
    __syncthreads(); // before the next call writes
    __threadfence();
    return mine;
}

// The last block of each group merges its ranges, and the last of those the groups: call
// merge(first part, number of parts, where the result goes among the parts or -1 for the end).
// Return whether this block has come to the end.
template <class Merge>
__device__ inline bool finish_ranges(const Finish& at, const Share& share, const Merge& merge)
{
    long long ranges = share.ranges, mine = share.range / at.group, first = mine * at.group;
    long long number = ranges - first < at.group ? ranges - first : at.group;
    int* counter = at.counters + share.tile * (1 + at.groups) + 1 + mine;
#pragma unroll 1
    for (bool is_group = true; is_last(counter, number); is_group = false) {
        bool ends = !is_group || at.groups == 1;
        merge(first, number, ends ? -1 : ranges + mine);
        if (ends) return true;
        first = ranges;
        number = at.groups;
        counter -= 1 + mine;
    }
    return false;
}

// A vector of the caller, of any float dtype, or one number for all channels.
struct Given {
    char* data;
    long long kind; // 0: the number; 1, 2, 3, 4: float64, float32, float16, bfloat16
    double value;

    template <class T> __device__ double at(long long channel) const
    {
        return to_double(reinterpret_cast<T*>(data)[channel]);
    }

    __device__ double operator[](long long channel) const
    {
        return kind == 0   ? value
               : kind == 1 ? at<double>(channel)
               : kind == 2 ? at<float>(channel)
               : kind == 3 ? at<__half>(channel)
                           : at<__nv_bfloat16>(channel);
    }
};

// A vector for the caller, of any float dtype.
struct Wanted {
    char* data;
    long long kind; // as of Given; 0: nobody wants it

    template <class T> __device__ void set(long long channel, double v) const
    {
        reinterpret_cast<T*>(data)[channel] = Rounded<T>::of(v);
    }

    __device__ void put(long long channel, double v) const
    {
        if (kind == 1) set<double>(channel, v);
        if (kind == 2) set<float>(channel, v);
        if (kind == 3) set<__half>(channel, v);
        if (kind == 4) set<__nv_bfloat16>(channel, v);
    }
};

// Where row 0 of the state of this block's range and channel is in parts (ranges, rows, C).
__device__ inline double* part_of(double* parts, int rows, const View& x, const Positions& at)
{
    return part_of(parts, rows, x.c, at.channel, blockIdx.y);
}

// The thread that writes what its channel's threads have merged.
__device__ inline bool writes(const View& x, const Positions& at)
{
    return threadIdx.y == 0 && at.channel < x.c;
}
