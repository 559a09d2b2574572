# shellcheck shell=bash disable=SC2034,SC2016  # RUN is for the scripts that source this; words for a shell on the nodes
# What the sbatch scripts of this folder share; they source it. Nothing here needs to be edited:
#
#   sbatch --nodes=2 --gres=gpu:8 --time=30 --partition=gpu slurm/bench.sbatch all_reduce -b 8 -e 1G
#
# sbatch's own flags, before the script, override its #SBATCH lines; what follows the script goes to commprof. The rest comes
# from the environment:
#
#   COMMPROF              the console script (commprof, found on PATH)
#   VENV                  a virtual environment to activate first (none)
#   MODULES               modules to load first, for example "cuda/12.4 python/3.11" (none)
#   NPROC_PER_NODE        ranks a node (the GPUs that the job has on its first node, else 1)
#   OUT                   where run folders go; every node must see it (runs, below the folder sbatch was called in)
#   MASTER_ADDR           where the ranks meet: an address of the first node (its NodeAddr in SLURM)
#   MASTER_PORT           the port there (10000 + job id mod 10000)
#   RENDEZVOUS_TIMEOUT_S  seconds to wait for all nodes to come (300)
#   COMMPROF_RUN          the run's own folder ($OUT/slurm-<job id>)
#   COMMPROF_VERB         links or contention in place of bench (slurm/bench.sbatch)
#   COMMPROF_REDUCE       1: reduce the ranks' traces at the end (slurm/train.sbatch)
#   COMMPROF_SLURM        this folder, where it cannot be found: a script piped into sbatch has no place of its own

set -euo pipefail

WARNED=0 # 1 once SLURM's warning (USR2) has come; it is passed on to the ranks
step=
trap 'WARNED=1; [ -z "$step" ] || kill -USR2 "$step" 2>/dev/null || true' USR2

fail() {
  printf 'slurm: error: %s\n' "$1" >&2
  exit 2
}

[ -n "${SLURM_JOB_ID:-}" ] || fail "no SLURM job here; submit the script with sbatch"

if [ -n "${MODULES:-}" ]; then
  if type module >/dev/null 2>&1; then
    set +u # module's own functions read unset variables
    # shellcheck disable=SC2086  # a list of words
    module load $MODULES || fail "module load $MODULES failed; module avail shows what there is"
    set -u
  else
    printf 'slurm: no module command on %s; MODULES="%s" is skipped\n' "$HOSTNAME" "$MODULES" >&2
  fi
fi
if [ -n "${VENV:-}" ]; then
  [ -r "$VENV/bin/activate" ] || fail "VENV=$VENV is no virtual environment that $HOSTNAME can read"
  # shellcheck source=/dev/null
  . "$VENV/bin/activate"
fi

found=$(command -v "${COMMPROF:-commprof}") ||
  fail "${COMMPROF:-commprof} is not found on $HOSTNAME; set COMMPROF to the script or VENV to its environment"
COMMPROF=$(readlink -f "$found") # torchrun lies beside the script, not beside a link to it
OUT=${OUT:-runs}
RUN=${COMMPROF_RUN:-$OUT/slurm-$SLURM_JOB_ID}
NPROC_PER_NODE=${NPROC_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
RENDEZVOUS_TIMEOUT_S=${RENDEZVOUS_TIMEOUT_S:-300}
MASTER_PORT=${MASTER_PORT:-$((10000 + SLURM_JOB_ID % 10000))}
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # torchrun's own choice, made here without its warning

# Print the address under which SLURM itself reaches a node: a name or a number, the node's name unless its admin says otherwise.
node_address() {
  scontrol show node -o "$1" | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p'
}

# Print a command as a shell would take it, then become it. A warning (USR2) is for the ranks, which install a handler of their
# own: it must neither end torchrun nor a rank that is still starting.
become() {
  [ "$SLURM_NODEID" != 0 ] || printf '+%s\n' "$(printf ' %q' "$@")" >&2
  trap '' USR2
  exec "$@"
}

# Become this node's torchrun, started by the words before --, of the program behind it: `meet_as TORCHRUN ... -- PROGRAM ...`.
meet_as() {
  local first=0 own torchrun=()
  [ "$SLURM_NODEID" != 0 ] || first=1
  while [ "$1" != -- ]; do
    torchrun+=("$1")
    shift
  done
  shift
  own=$(node_address "$SLURMD_NODENAME")
  become "${torchrun[@]}" --nnodes="$SLURM_STEP_NUM_NODES" --nproc-per-node="$NPROC_PER_NODE" \
    --rdzv-backend=c10d --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT" --rdzv-id="$SLURM_JOB_ID" --local-addr="$own" \
    --rdzv-conf="is_host=$first,join_timeout=$RENDEZVOUS_TIMEOUT_S,read_timeout=$RENDEZVOUS_TIMEOUT_S" "$@"
}

# Become this node's torchrun of our own verb: `join_ranks VERB ...`.
join_ranks() {
  local torchrun=("${COMMPROF%/*}/torchrun")
  [ -x "${torchrun[0]}" ] || torchrun=("${COMMPROF%/*}/python" -P -m torch.distributed.run)
  meet_as "${torchrun[@]}" -- --no-python "$COMMPROF" "$@"
}

# Become this node's torchrun of somebody's program, in its own Python: `join_program PYTHON [-u] X ARGS`.
join_program() {
  local python=$1
  shift
  [ "${1:-}" != -u ] || shift
  meet_as "$python" -m torch.distributed.run -- "$@"
}

# Run `commprof VERB ...` on the job's nodes, NPROC_PER_NODE ranks on each, and return its exit code. One rank alone needs no
# torchrun, and is the program that people had before.
run_ranks() {
  local start='join_ranks "$@"' code=0
  [ $((SLURM_JOB_NUM_NODES * NPROC_PER_NODE)) != 1 ] || start='become "$COMMPROF" "$@"'
  [ "$WARNED" = 0 ] || return 1
  srun --export=ALL --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
    --cpus-per-task="${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}" --kill-on-bad-exit=1 \
    bash -euo pipefail -c "$start" commprof "$@" &
  step=$!
  while kill -0 "$step" 2>/dev/null; do
    wait "$step" || true # returns early when the warning comes
  done
  wait "$step" || code=$?
  if [ "$code" != 0 ] && [ ! -e "$RUN" ] && [ "$SLURM_JOB_NUM_NODES" != 1 ]; then
    printf 'slurm: no run was begun; unless a line "commprof: error:" says why, the nodes did not meet at %s\n' \
      "$MASTER_ADDR:$MASTER_PORT: taken (MASTER_PORT), or not reached (MASTER_ADDR, firewall)?" >&2
  fi
  return "$code"
}

read -r first_node < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
MASTER_ADDR=${MASTER_ADDR:-$(node_address "$first_node")}
export COMMPROF NPROC_PER_NODE MASTER_ADDR MASTER_PORT RENDEZVOUS_TIMEOUT_S
export -f node_address become meet_as join_ranks join_program
