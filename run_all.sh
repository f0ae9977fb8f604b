#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  cat <<'TEXT'
Perturbation Lab: every figure and table from one command.

  ./run_all.sh          run notebooks 01 to 08 and rewrite figures/, figures/tables/ and the
                        outputs in notebooks/*.ipynb (under an hour on 2 cores)
  ./run_all.sh quick    the same at small size into build/quick/; touches nothing that git tracks
                        (about 5 minutes)
  ./run_all.sh test     the test suite, with a tiny run of all notebooks (about 10 minutes)
  ./run_all.sh sweep NAME
                        a parameter sweep, workflow/sweeps/NAME.yaml or a file of your own, into
                        build/sweeps/NAME/; workflow/README.md says how. --dry-run says what would
                        run and why, -p NAME VALUE (as often as needed) changes a parameter,
                        --profile workflow/profiles/slurm runs it on a cluster
  ./run_all.sh screen export DIR
                        a screen as files, for a model in any language to train on and predict; the
                        key of its answers lies beside DIR. -p NAME VALUE changes what it is like
  ./run_all.sh screen score DIR FILE
                        the exact scores of the predictions in FILE, beside what usual metrics
                        say of them (minutes the first time)
  ./run_all.sh report   build/report.html: figures, tables, notebooks and what they were made with
                        in one file to mail, from what the last runs have left (seconds)
  ./run_all.sh peers    published models (scVI, scGen) and scores (cell-eval2) on the same
                        questions, in an environment of their own, .venv-peers (3 GB): tests them
                        and rewrites their tables, which notebook 05 shows (about 25 minutes)
  ./run_all.sh peers NAME
                        a published model of screens, biolord, gears, scouter, cpa or state: installs
                        it there, tests it, and scores it on two screens exported as files, into
                        build/peers/NAME/ (its license first: peers/README.md)
  ./run_all.sh bench    time and memory beside plain code and published packages, in the
                        environment of peers, into benchmarks/ and Figure 9 (about 40 minutes;
                        NAME ... for some of them)
  ./run_all.sh --help   this text

  --force, after the first two or peers: also run again what is up to date in build/

The first call makes .venv and installs requirements.txt into it, unless the active Python has all
of it already. A run that was stopped goes on with the notebooks that are missing. Where a notebook
fails, a line names it, the cell and the error, and where the partly executed notebook lies.
CORES=n limits the processor cores (default: all).
TEXT
}

mode=full force=() peer=
refuse() { echo "run_all.sh: $1" >&2; exit 2; }
case "${1-}" in sweep | bench | screen) mode=$1 && shift ;; esac
[ "$mode" != full ] || for argument in "$@"; do
  case "$argument" in
    quick | test | tiny | report | peers)
      [ "$mode" = full ] || refuse "'$mode $argument': one at a time"
      mode=$argument ;;
    --force) force=(--forceall) ;;
    -h | --help) usage; exit 0 ;;
    *) if [ "$mode" = peers ] && [ -f "peers/$argument/requirements.txt" ]; then peer=$argument && continue; fi
      refuse "'$argument': must be quick, test, sweep, screen, report, peers, bench, --force or --help, or nothing" ;;
  esac
done
case "$mode $#" in "test 2" | "report 2") refuse "--force: $mode has nothing to force" ;; esac

requirements=requirements.txt environment=.venv
if [ "$mode" = peers ] || [ "$mode" = bench ]; then
  requirements=build/peers.txt environment=.venv-peers
  mkdir -p build
  peers=$(sed -n '/^peers = \[/,/^\]/s/^ *"\([^"]*\)".*/\1/p' pyproject.toml)
  names=$(sed 's/==.*//' <<< "$peers" | paste -sd '|' -)
  { grep -Ev "^($names)==" requirements.txt; echo "$peers"; } > "$requirements"
fi
if [ -n "$peer" ]; then  # and the model's own, within these
  requirements=build/peers-$peer.txt
  cat build/peers.txt "peers/$peer/requirements.txt" > "$requirements"
fi
if python3 workflow/satisfied.py "$requirements" 2> /dev/null; then
  python=$(command -v python3)
else
  python=$PWD/$environment/bin/python
  if ! "$python" workflow/satisfied.py "$requirements" 2> /dev/null; then
    base=$(command -v python3.11 || command -v python3) || { echo "run_all.sh: needs Python 3.11" >&2; exit 1; }
    "$base" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { echo "run_all.sh: needs Python 3.11, found $("$base" --version)" >&2; exit 1; }
    echo "Installing $requirements into $environment (once, a few minutes)"
    "$python" -m pip --version > /dev/null 2>&1 || "$base" -m venv --clear "$environment"
    pip=("$python" -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" -r "${requirements/-$peer.txt/.txt}"
    # shellcheck disable=SC2046  # flags of pip that a file of requirements can't hold
    [ -z "$peer" ] || "${pip[@]}" -c build/peers.txt $(sed -n 's/^# pip: //p' "peers/$peer/requirements.txt") -r "peers/$peer/requirements.txt"
  fi
fi
PATH="$(dirname "$python"):$PATH"
# the environment's own kernel, single threads (other counts give other last digits), no stray warnings
export PATH JUPYTER_PREFER_ENV_PATH=1 OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 MPLBACKEND=agg
export PYTHONWARNINGS="ignore:IProgress not found" PYTHONDONTWRITEBYTECODE=1 PYDEVD_DISABLE_FILE_VALIDATION=1

cores=${CORES:-$("$python" -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')}
if [ "$mode" = sweep ]; then
  export CORES=$cores
  exec "$python" workflow/sweep.py "$@"
fi
if [ "$mode" = bench ]; then
  exec "$python" -m benchmarks "$@"
fi
if [ "$mode" = screen ]; then
  exec "$python" workflow/screen.py "$@"
fi
if [ "$mode" = test ]; then
  exec "$python" -m pytest -n "$cores" --dist loadfile
fi
if [ -n "$peer" ]; then
  "$python" -m pytest tests/peers/test_screen_models.py -k "$peer or not answers"
  exec "$python" -m peers screen "$peer"
fi
if [ "$mode" = report ]; then
  exec "$python" workflow/report.py
fi

mkdir -p "build/$mode/executed"
if command -v flock > /dev/null; then
  exec 9> "build/$mode/.lock"
  flock -n 9 || { echo "run_all.sh: another run of '$mode' is under way in this folder" >&2; exit 1; }
fi
targets=(all)
if [ "$mode" = peers ]; then
  "$python" -m pytest tests/peers
  targets=(peers)
fi
started=$SECONDS
touch "build/$mode/.started"
stopped=
trap 'stopped=yes' INT
said=build/$mode/snakemake.txt  # what Snakemake says; shown are the lines of notebooks
if ! "$python" -m snakemake --snakefile workflow/Snakefile --config "mode=$mode" --cores "$cores" \
  --rerun-incomplete --nolock --quiet rules progress host reason "${force[@]+"${force[@]}"}" -- "${targets[@]}" 2>&1 |
  (trap '' INT; tee "$said" | sed -un '/^0[0-9]_[a-z_]* | /p' >&2); then
  [ -z "$stopped" ] || { echo "run_all.sh: stopped; the same command goes on with the notebooks that are missing" >&2; exit 130; }
  failed=$(find "build/$mode/executed" -name '*.part.ipynb' -newer "build/$mode/.started")
  for part in $failed; do
    log=${part%.part.ipynb}.ipynb.txt
    echo "run_all.sh: $(tail -n 1 "$log"), messages: $log" >&2
  done
  if [ -z "$failed" ]; then  # no notebook, but Snakemake
    { grep -m 1 -A 2 -E 'Error|Exception' "$said" || tail -n 3 "$said"; } >&2
    echo "run_all.sh: stopped, messages: $said" >&2
  fi
  exit 1
fi
if [ "$mode" = peers ]; then
  "$python" -m peers publish build/peers
else
  "$python" workflow/finish.py "$mode"
fi
echo "Done in $(((SECONDS - started + 30) / 60)) min."
