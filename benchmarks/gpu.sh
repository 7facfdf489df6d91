#!/usr/bin/env bash
# Everything that takes a GPU: build in place, conform, agree with PyTorch, pass compute-sanitizer,
# measure. Needs no network; runs with the Python that is there (PYTHON=... for another one).
#
#     bash benchmarks/gpu.sh [directory for results]
#
# Steps that lack a tool or a library are skipped and say so; the exit status is that of the rest.
# STEPS="tests sanitize table" runs some of them; build is always done where it is needed. QUICK=1
# measures small arrays: whether all of it runs, not how fast. INSTALLED=1 takes the normcore that
# Python has, and builds nothing.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
results=$(mkdir -p "${1:-benchmarks/gpu/results}" && cd "${1:-benchmarks/gpu/results}" && pwd)
steps=${STEPS:-tests sanitize table}
export PYTHONPATH="$PWD/benchmarks/gpu${PYTHONPATH:+:$PYTHONPATH}"
[[ -n ${INSTALLED:-} ]] || export PYTHONPATH="$PWD:$PWD/backends:$PWD/plugins:$PYTHONPATH"
export PYTHONUNBUFFERED=1
export SCIPY_ARRAY_API=1 # before scikit-learn is imported, for its array-API dispatch
failed=()
skipped=()

run() { # name, command...: keep a log, go on after a failure
    local name=$1
    shift
    echo "== $name"
    "$@" 2>&1 | tee "$results/$name.log"
    local status=${PIPESTATUS[0]}
    ((status == 0)) || failed+=("$name")
}

has() { "$python" -P -c "import $1" 2>/dev/null; } # -P: what is in this directory is no package

if ! has "normcore.statistics, normcore_cpu.backend"; then
    if [[ -n ${INSTALLED:-} ]]; then
        echo "$python has no normcore" >&2
        exit 1
    fi
    if ! has Cython || ! has setuptools; then
        echo "normcore is not built, and $python has no Cython and setuptools to build it" >&2
        exit 1
    fi
    # The extensions that have no Python form; the rest of the core runs as it is.
    run build "$python" benchmarks/gpu/build.py
    ((${#failed[@]} == 0)) || exit 1
fi

run ready "$python" benchmarks/gpu/common.py
((${#failed[@]} == 0)) || exit 1

for step in $steps; do
    case $step in
    tests)
        if has pytest && has hypothesis; then
            run tests "$python" -P -m pytest -q -p no:cacheprovider --rootdir "$PWD" \
                -c pyproject.toml -o filterwarnings=default benchmarks/gpu
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
        for tool in memcheck racecheck synccheck initcheck; do
            run "$tool" "$sanitizer" --tool "$tool" --error-exitcode 9 \
                "$python" benchmarks/gpu/small_shapes.py
        done
        ;;
    table)
        run table "$python" benchmarks/gpu/table.py "$results" ${QUICK:+--quick}
        ;;
    *)
        echo "there is no step $step" >&2
        failed+=("$step")
        ;;
    esac
done

if ((${#failed[@]})); then
    echo "FAILED: ${failed[*]}"
    exit 1
fi
((${#skipped[@]} == 0)) || echo "SKIPPED: ${skipped[*]}"
echo "everything that ran passed; results are in $results"
