// Design: batch norm in one launch, of arrays that the cache holds between two passes, so that memory
// is read once. What a launch of its own would do block by block is shared out again: blocks take
// shares in turn, the first pass through all of them, then the second, the last ones first. A tile of
// channels is left for the second pass once all its ranges are merged; blocks wait for that, so
// where a tile has several ranges, all blocks must be on the device at once (a cooperative launch).
// A tile of one range waits for nobody. The trees are those of two launches, and so are the bits.

// Wait a little, where that is known.
__device__ inline void pause()
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 700
    __nanosleep(64);
#endif
}

// Behind the counters of Finish, for each tile: how many blocks may still go on with it. A tile that
// is finished has a ticket for each range; each is taken once, so what is left is 0 again.
__device__ inline int* tickets_of(const Finish& at, const Share& share)
{
    return at.counters + share.tiles * (1 + at.groups) + share.tile;
}

__device__ inline void hand_out_tickets(const Finish& at, const Share& share)
{
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        __threadfence(); // what the block wrote comes first
        atomicExch(tickets_of(at, share), static_cast<int>(share.ranges));
    }
}

__device__ inline void take_ticket(const Finish& at, const Share& share)
{
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        int* tickets = tickets_of(at, share);
        while (*const_cast<volatile int*>(tickets) == 0) pause();
        atomicSub(tickets, 1);
        __threadfence(); // before the block reads
    }
    __syncthreads();
}

// Call observe(share), which says whether it finishes a tile, for the shares of this block, then
// map(share) for the same ones. `per_tile` is the number of ranges.
template <class Observe, class Map>
__device__ inline void in_two_passes(int tiles, int per_tile, const Finish& finish,
                                     const Observe& observe, const Map& map)
{
    long long number = static_cast<long long>(tiles) * per_tile, next = blockIdx.x;
#pragma unroll 1
    for (; next < number; next += gridDim.x) {
        Share share(next, tiles, per_tile);
        if (observe(share) && per_tile > 1) hand_out_tickets(finish, share);
    }
    __syncthreads(); // before a block reads what it has finished
#pragma unroll 1
    for (next -= gridDim.x; next >= 0; next -= gridDim.x) {
        Share share(next, tiles, per_tile);
        if (per_tile > 1) take_ticket(finish, share);
        map(share);
    }
}

// -- forward -------------------------------------------------------------------------------------

template <class W>
__device__ inline void normalize_all(const View& x, const View& out, long long per_range,
                                     const Finish& finish, double* state, const Derived& derived,
                                     int tiles, int per_tile)
{
    in_two_passes(
        tiles, per_tile, finish,
        [&](const Share& share) {
            return observe_moments<W>(x, View{}, Unweighted<W>{x}, false, per_range, finish, state,
                                      derived, share);
        },
        [&](const Share& share) {
            RowsOfMaps maps = {derived.rows};
            rescale_all<W>(x, out, View{}, maps, -INF, INF, 0, per_range, share);
        });
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
normalize_single(View x, View out, long long per_range, Finish finish, double* state,
                 Derived derived, int tiles, int per_tile)
{
    normalize_all<Single>(x, out, per_range, finish, state, derived, tiles, per_tile);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
normalize_along(View x, View out, long long per_range, Finish finish, double* state,
                Derived derived, int tiles, int per_tile)
{
    normalize_all<Along<LARGER>>(x, out, per_range, finish, state, derived, tiles, per_tile);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
normalize_across(View x, View out, long long per_range, Finish finish, double* state,
                 Derived derived, int tiles, int per_tile)
{
    normalize_all<Across<LARGER, 2>>(x, out, per_range, finish, state, derived, tiles, per_tile);
}

// -- backward ------------------------------------------------------------------------------------

template <class W>
__device__ inline void normalize_all_backward(const View& dy, const View& x, const View& out,
                                              const Forward& given, long long per_range,
                                              const Finish& finish, double* rows, int tiles,
                                              int per_tile)
{
    Forward forward = given;
    forward.maps = nullptr;
    forward.relu = 0; // known here, so that no code is made for it
    in_two_passes(
        tiles, per_tile, finish,
        [&](const Share& share) {
            return reduce_backward<W>(dy, x, View{}, forward, per_range, finish, rows, share);
        },
        [&](const Share& share) {
            map_backward<W>(dy, x, out, View{}, rows, nullptr, per_range, share);
        });
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
normalize_backward_single(View dy, View x, View out, Forward forward, long long per_range,
                          Finish finish, double* rows, int tiles, int per_tile)
{
    normalize_all_backward<Single>(dy, x, out, forward, per_range, finish, rows, tiles, per_tile);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
normalize_backward_along(View dy, View x, View out, Forward forward, long long per_range,
                         Finish finish, double* rows, int tiles, int per_tile)
{
    using W = Along<LARGER>;
    normalize_all_backward<W>(dy, x, out, forward, per_range, finish, rows, tiles, per_tile);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
normalize_backward_across(View dy, View x, View out, Forward forward, long long per_range,
                          Finish finish, double* rows, int tiles, int per_tile)
{
    using W = Across<LARGER, 2>;
    normalize_all_backward<W>(dy, x, out, forward, per_range, finish, rows, tiles, per_tile);
}
