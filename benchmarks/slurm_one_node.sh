#!/bin/bash
# A SLURM of one node on loopback addresses, and `rlct trace --submit slurm` on it: against one
# process, preempted by scancel --signal=USR2, by a partition of higher priority, and by scontrol
# requeue, and cancelled. For a machine or container of one's own, as root, without systemd:
#
#   apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
#   pip install 'llc-toolkit[slurm]'
#   benchmarks/slurm_one_node.sh
#
# Names of scenarios may follow: `benchmarks/slurm_one_node.sh race signal2 signal2` runs those.
#
# Machine: 2 cores of an AMD EPYC beside heavy jobs of others (load 4 to 8), SLURM 22.05.8,
#   submitit 1.5.4
# Date: 2026-11-29
# Times say little: SLURM lets a requeued job wait two minutes, and others were at work.
# Result: every scenario, each time, 8 of 8 estimates equal to the byte to those of one process.
# On 2026-11-23 signal2 had met a race of submitit: the requeue stopped its own `scontrol requeue`,
# which was taken for a failure of the job, and the waiting command gave up on it. `rlct` has since
# believed a failure only of a job that has left the queue. On 2026-11-29 signal2 ran four times
# and did not meet the race by itself. So `race` meets it on purpose, with a `scontrol` that is
# slow to return: both times submitit wrote a failure, the command waited, and 8 of 8 were equal.
# Two whole runs were made, the first before `race` was there. In both, the job of `partition` was
# done before SLURM ended its time of grace (Restarts=0), so nothing was requeued. With DRAWS=16000
# it was: `DRAWS=16000 benchmarks/slurm_one_node.sh partition` gave Restarts=1, 8 of 8 equal.
# The second whole run printed:
#
#   PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST
#   low*         up   infinite      1   idle vm
#   high         up   infinite      1   idle vm
#   srun says: vm, slurm-wlm 22.05.8
#   == one process
#   toy: 8 checkpoints, steps 10 … 80, 8 parameters
#   time      28 s with 1 process
#   == an array of two jobs
#   array: 2 jobs submitted: 2_0, 2_1
#   toy: 8 checkpoints, steps 10 … 80, 8 parameters
#   time      28 s with jobs waited for
#   array: 8 of 8 estimates equal to the byte
#   == scancel --signal=USR2, as before a time limit: 1 process(es) of work
#   signal1: 1 jobs submitted: 4
#   signal1: 0 of 8 checkpoints are finished; the same command without --detach waits for the rest
#   signal1: 1 of 8 finished when it was stopped
#   signal1: 1 jobs submitted before are taken up
#   toy: 8 checkpoints, steps 10 … 80, 8 parameters
#   time      171 s with jobs waited for
#   signal1: job log: 1 preempted, 1 requeued by submitit, 0 taken for failed; SLURM: Restarts=1
#   signal1: 8 of 8 estimates equal to the byte
#   == scancel --signal=USR2, as before a time limit: 2 process(es) of work
#   signal2: 1 jobs submitted: 5
#   signal2: 0 of 8 checkpoints are finished; the same command without --detach waits for the rest
#   signal2: 2 of 8 finished when it was stopped
#   signal2: 1 jobs submitted before are taken up
#   toy: 8 checkpoints, steps 10 … 80, 8 parameters
#   time      167 s with jobs waited for
#   signal2: job log: 1 preempted, 1 requeued by submitit, 0 taken for failed; SLURM: Restarts=1
#   signal2: 8 of 8 estimates equal to the byte
#   == the same, where the requeue stops its own scontrol
#   race: 1 jobs submitted: 6
#   race: 0 of 8 checkpoints are finished; the same command without --detach waits for the rest
#   race: 1 of 8 finished when it was stopped
#   race: 1 jobs submitted before are taken up
#   toy: 8 checkpoints, steps 10 … 80, 8 parameters
#   time      176 s with jobs waited for
#   race: job log: 1 preempted, 0 requeued by submitit, 1 taken for failed; SLURM: Restarts=1
#   race: 8 of 8 estimates equal to the byte
#   == preempted by a job of higher priority that wants the node
#   partition: 1 jobs submitted: 7
#   partition: 0 of 8 checkpoints are finished; the same command without --detach waits for the
#     rest
#   partition: 1 of 8 finished when it was stopped
#   partition: 1 jobs submitted before are taken up
#   toy: 8 checkpoints, steps 10 … 80, 8 parameters
#   time      17 s with jobs waited for
#   partition: job log: 0 preempted, 0 requeued by submitit, 0 taken for failed; SLURM: Restarts=0
#   partition: 8 of 8 estimates equal to the byte
#   == scontrol requeue, without a warning
#   requeue: 1 jobs submitted: 9
#   requeue: 0 of 8 checkpoints are finished; the same command without --detach waits for the rest
#   requeue: 1 of 8 finished when it was stopped
#   requeue: 1 jobs submitted before are taken up
#   toy: 8 checkpoints, steps 10 … 80, 8 parameters
#   time      189 s with jobs waited for
#   requeue: job log: 0 preempted, 0 requeued by submitit, 0 taken for failed; SLURM: Restarts=1
#   requeue: 8 of 8 estimates equal to the byte
#   == a job that is cancelled
#   cancelled: 1 jobs submitted: 10
#   cancelled: 0 of 8 checkpoints are finished; the same command without --detach waits for the
#     rest
#   rlct: 1 of 1 jobs failed, first 10 (it ended without a result): see
#     .../cancelled/jobs/10_0_log.err; the same command goes on from what is finished
#   and the same command again:
#   cancelled: 2 jobs submitted: 11_0, 11_1
#   toy: 8 checkpoints, steps 10 … 80, 8 parameters
#   time      19 s with jobs waited for
#   cancelled: 8 of 8 estimates equal to the byte
set -u
ROOT=$(mktemp -d)
HERE=$(cd "$(dirname "$0")/.." && pwd)
PYTHON=${PYTHON:-python}
HOST=$(hostname -s)
export PYTHONPATH="$HERE${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1

# Everything of ours lies in $ROOT: configuration, key, sockets, logs, state.
mkdir -p "$ROOT"/{state,spool,munge,work}
chmod 755 "$ROOT" "$ROOT/munge"
head -c 1024 /dev/urandom >"$ROOT/munge/munge.key"
chmod 600 "$ROOT/munge/munge.key"
cat >"$ROOT/slurm.conf" <<EOF
ClusterName=onenode
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$ROOT/munge/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1
ReturnToService=2
KillWait=3
StateSaveLocation=$ROOT/state
SlurmdSpoolDir=$ROOT/spool
SlurmctldPidFile=$ROOT/slurmctld.pid
SlurmdPidFile=$ROOT/slurmd.pid
SlurmctldLogFile=$ROOT/slurmctld.log
SlurmdLogFile=$ROOT/slurmd.log
SlurmctldPort=16917
SlurmdPort=16918
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes=$HOST Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=5
PartitionName=high Nodes=$HOST MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=off
EOF
export SLURM_CONF="$ROOT/slurm.conf"

stop() {
  scancel --user=root 2>/dev/null
  sleep 2
  for file in slurmd slurmctld munge/munged; do
    [ -f "$ROOT/$file.pid" ] && kill "$(cat "$ROOT/$file.pid")" 2>/dev/null
  done
  sleep 1
  if [ "${KEEP:-}" ]; then echo "kept: $ROOT"; else rm -rf "$ROOT"; fi
}
trap stop EXIT

munged --force --key-file="$ROOT/munge/munge.key" --socket="$ROOT/munge/munge.socket" \
  --pid-file="$ROOT/munge/munged.pid" --log-file="$ROOT/munge/munged.log" \
  --seed-file="$ROOT/munge/munged.seed" || exit 1
slurmctld -f "$SLURM_CONF" || exit 1
sleep 2
slurmd -f "$SLURM_CONF" -N "$HOST" || exit 1
for _ in $(seq 20); do sinfo --noheader --format=%T | grep -q idle && break; sleep 1; done
sinfo || { tail -n 20 "$ROOT"/*.log; exit 1; }
echo "srun says: $(srun -n1 hostname), $(slurmctld -V)"

cd "$ROOT/work" || exit 1
cat >toy_task.py <<'EOF'
import torch, llc

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(40, 3, generator=generator)
targets = inputs[:, :2] + 0.1 * torch.randn(40, 2, generator=generator)

def task():
    return llc.Task(torch.nn.Linear(3, 2), (inputs, targets), "mse", name="toy")
EOF
$PYTHON - <<'EOF'
import torch
from pathlib import Path
from llc.checkpoints import save_checkpoint
for number in range(8):
    far = torch.randn(2, 3, generator=torch.Generator().manual_seed(number))
    weights = {"weight": torch.eye(2, 3) + far * 0.2 * (1 - number / 8), "bias": torch.zeros(2)}
    save_checkpoint(Path("in"), 10 * (number + 1), weights, {})
EOF
TRACE=(-m llc trace in --task toy_task.py:task --gamma 10 --chains 2 --draws "${DRAWS:-4000}"
  --burn-in 40)

same() { # run folders, but for wall times
  $PYTHON - "$1" <<'EOF'
import json, sys
from pathlib import Path
def read(folder):
    found = {}
    for path in sorted(Path(folder, "estimates").glob("*.json")):
        values = json.loads(path.read_text())
        values.pop("seconds")
        found[path.name] = json.dumps(values), path.with_suffix(".npz").read_bytes()
    return found
one, other = read("alone"), read(sys.argv[1])
assert len(one) == 8
print(f"{sys.argv[1]}: {sum(one[k] == other.get(k) for k in one)} of 8 estimates equal to the byte")
EOF
}

first_done() {
  for _ in $(seq 300); do
    ls "$1"/estimates/*.fingerprint >/dev/null 2>&1 && break
    sleep 0.2
  done
}
the_job() {
  $PYTHON -c "import json,sys;print(json.load(open(sys.argv[1]))['jobs'][0])" "$1/jobs/jobs.json"
}
restarts() { scontrol show job "$1" 2>/dev/null | grep -o 'Restarts=[0-9]*' | head -n 1; }
jobs_said() {
  local logs
  logs=$(cat "$1"/jobs/*.out) # .err says the warnings among them once more
  echo "$1: job log: $(grep -c 'is preempted' <<<"$logs") preempted," \
    "$(grep -c 'Requeued' <<<"$logs") requeued by submitit," \
    "$(grep -c 'triggered an exception' <<<"$logs") taken for failed; SLURM: $(restarts "$2")"
}

begin() { # submit one job, wait for its first estimate
  rm -rf "$1"
  $PYTHON "${TRACE[@]}" --out "$1" --submit slurm --jobs 1 --partition low --time 30 --detach \
    --workers "${2:-1}"
  first_done "$1"
}
finish() {
  local job
  job=$(the_job "$1")
  echo "$1: $(ls "$1"/estimates/*.fingerprint | wc -l) of 8 finished when it was stopped"
  $PYTHON "${TRACE[@]}" --out "$1" --submit slurm --partition low | grep -E "checkpoints|time"
  jobs_said "$1" "$job"
  same "$1"
}

# The race of submitit on purpose: a requeue that stops the very command that asks for it.
mkdir "$ROOT/slow"
printf '#!/bin/sh\n%s "$@" || exit\nsleep 60\n' "$(command -v scontrol)" >"$ROOT/slow/scontrol"
chmod 755 "$ROOT/slow/scontrol"

scenario() {
  case $1 in
    array)
      echo "== an array of two jobs"
      rm -rf array
      $PYTHON "${TRACE[@]}" --out array --submit slurm --jobs 2 --partition low |
        grep -E "checkpoints|time"
      same array
      ;;
    signal1 | signal2)
      echo "== scancel --signal=USR2, as before a time limit: ${1#signal} process(es) of work"
      begin "$1" "${1#signal}"
      scancel --signal=USR2 "$(the_job "$1")"
      finish "$1"
      ;;
    race)
      echo "== the same, where the requeue stops its own scontrol"
      PATH="$ROOT/slow:$PATH" begin race 2
      scancel --signal=USR2 "$(the_job race)"
      finish race
      ;;
    partition)
      echo "== preempted by a job of higher priority that wants the node"
      begin partition
      sbatch --quiet --partition=high --exclusive --time=1 --output=/dev/null --wrap="sleep 5"
      finish partition
      ;;
    requeue)
      echo "== scontrol requeue, without a warning"
      begin requeue
      scontrol requeue "$(the_job requeue)"
      finish requeue
      ;;
    cancelled)
      echo "== a job that is cancelled"
      begin cancelled
      scancel "$(the_job cancelled)"
      $PYTHON "${TRACE[@]}" --out cancelled --submit slurm --partition low 2>&1 | tail -n 1
      echo "and the same command again:"
      $PYTHON "${TRACE[@]}" --out cancelled --submit slurm --jobs 2 --partition low |
        grep -E "checkpoints|time"
      same cancelled
      ;;
    *) echo "there is no scenario $1" ;;
  esac
}

echo "== one process"
$PYTHON "${TRACE[@]}" --out alone --workers 1 | grep -E "checkpoints|time"
[ $# -gt 0 ] || set -- array signal1 signal2 race partition requeue cancelled
for name; do scenario "$name"; done
