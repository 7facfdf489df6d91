#!/usr/bin/env bash
# Everything that takes a GPU, in the order of its worth and in about ten minutes: a table of times
# next to a copy and to PyTorch, conformance, compute-sanitizer, and the time of each kernel. Needs
# no network; runs with the Python that is there (PYTHON=... for another one).
#
#     bash benchmarks/gpu.sh [directory for results]
#
# Steps that lack a tool or a library are skipped and say so; the exit status is that of the rest.
# STEPS="table tests" runs some of them. Each has a cap in seconds (TABLE_SECONDS and so on); one
# that runs out keeps what it has measured. What is built, is built first; INSTALLED=1 takes the
# normcore that Python has, also by PYTHONPATH, and builds nothing. QUICK=1 measures small arrays:
# whether all of it runs, not how fast.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
results=$(mkdir -p "${1:-benchmarks/gpu/results}" && cd "${1:-benchmarks/gpu/results}" && pwd)
steps=${STEPS:-quick table tests sanitize profile}
[[ -n ${INSTALLED:-} ]] || export PYTHONPATH="$PWD:$PWD/backends:$PWD/plugins${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1
export SCIPY_ARRAY_API=1 # before scikit-learn is imported, for its array-API dispatch
failed=()
skipped=()
late=()

run() { # name, seconds, command...: all goes to one log; go on after a failure, or out of time
    local name=$1 seconds=$2 started=$SECONDS
    shift 2
    echo "== $name, at most $seconds s" | tee -a "$results/gpu.log"
    timeout -k 5 "$seconds" "$@" 2>&1 | tee -a "$results/gpu.log"
    local status=${PIPESTATUS[0]}
    if ((status == 124 || status == 137)); then
        late+=("$name")
        echo "== $name: out of time; what it had measured is kept" | tee -a "$results/gpu.log"
    elif ((status != 0)); then
        failed+=("$name")
    fi
    echo "== $name: $((SECONDS - started)) s" | tee -a "$results/gpu.log"
}

# -P: what is in this directory is no package. The root is last on the path, so that the normcore
# of INSTALLED comes first, and only the benchmarks are found there.
module=(-P -c "import runpy, sys
sys.path.append('$PWD')
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)")

has() { "$python" -P -c "import $1" 2>/dev/null; }

if ! has "normcore.statistics, normcore_cpu.backend"; then
    if [[ -n ${INSTALLED:-} ]]; then
        echo "$python has no normcore" >&2
        exit 1
    fi
    if ! has Cython || ! has setuptools; then
        echo "normcore is not built, and $python has no Cython and setuptools to build it" >&2
        exit 1
    fi
    run build "${BUILD_SECONDS:-600}" "$python" setup.py -q build_ext --inplace
    ((${#failed[@]} == 0)) || exit 1
fi

run ready 60 "$python" "${module[@]}" benchmarks.gpu.common
((${#failed[@]} + ${#late[@]} == 0)) || exit 1

for step in $steps; do
    case $step in
    quick)
        run quick "${QUICK_SECONDS:-40}" "$python" "${module[@]}" benchmarks.gpu.table "$results" \
            --quick --seconds "$((${QUICK_SECONDS:-40} - 5))"
        ;;
    table)
        # The cap is of the last resort: the table itself ends in time.
        run table "$((${TABLE_SECONDS:-170} + 15))" "$python" "${module[@]}" benchmarks.gpu.table \
            "$results" --seconds "${TABLE_SECONDS:-170}" ${QUICK:+--quick}
        run report 60 "$python" "${module[@]}" benchmarks.gpu.report \
            "$results/$([[ -n ${QUICK:-} ]] && echo quick || echo gpu).jsonl"
        ;;
    tests)
        if has pytest && has hypothesis; then
            limit=()
            has pytest_timeout && limit=(--timeout 60 --timeout-method thread)
            run tests "${TESTS_SECONDS:-110}" "$python" "${module[@]}" pytest -v \
                -p no:cacheprovider --tb=short --rootdir "$PWD" -c pyproject.toml \
                -o filterwarnings=default "${limit[@]}" -k "${TESTS:-}" benchmarks/gpu
        else
            echo "== tests: skipped, pytest or hypothesis is missing"
            skipped+=(tests)
        fi
        ;;
    sanitize)
        sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
        if [[ -z $sanitizer ]]; then
            echo "== sanitize: skipped, there is no compute-sanitizer"
            skipped+=(sanitize)
            continue
        fi
        for tool in ${TOOLS:-memcheck racecheck}; do
            run "$tool" "${SANITIZE_SECONDS:-50}" "$sanitizer" --tool "$tool" \
                --error-exitcode 9 "$python" "${module[@]}" benchmarks.gpu.small_shapes \
                --seconds "$((${SANITIZE_SECONDS:-50} - 10))"
        done
        ;;
    profile)
        run profile "${PROFILE_SECONDS:-60}" "$python" "${module[@]}" \
            benchmarks.gpu.kernel_times "$results/kernels.txt" ${QUICK:+--quick}
        ;;
    *)
        echo "there is no step $step" >&2
        failed+=("$step")
        ;;
    esac
done

((${#late[@]} == 0)) || echo "OUT OF TIME: ${late[*]}"
((${#skipped[@]} == 0)) || echo "SKIPPED: ${skipped[*]}"
if ((${#failed[@]})); then
    echo "FAILED: ${failed[*]}"
    exit 1
fi
echo "everything that ran passed; results are in $results"
