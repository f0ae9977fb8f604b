#!/usr/bin/env bash
# Slurm on this machine alone, for tests: no accounting, two processors, and two GPUs that are there in name only.
# Its configuration, state, logs and sockets lie in FOLDER, and its ports are free ones: nothing outside is changed.
set -euo pipefail

usage() {
  cat <<'TEXT'
tests/slurm/slurm.sh start FOLDER   start it, wait until its node is idle, and print what its commands need:
                                    eval "$(tests/slurm/slurm.sh start FOLDER)"
tests/slurm/slurm.sh stop FOLDER    end its jobs and daemons; FOLDER stays, with their logs

Exit code 3: it can't be started here. Debian has it: apt-get install slurm-wlm munge
TEXT
}

[ "${1-}" != --help ] || { usage; exit 0; }
if [ $# -ne 2 ] || [[ "$1" != @(start|stop) ]]; then
  echo "slurm.sh: '$*': must be start FOLDER or stop FOLDER" >&2
  exit 2
fi
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
folder=$(realpath -m -- "$2")
export SLURM_CONF=$folder/slurm.conf

cannot() {
  echo "slurm.sh: Slurm can't be started here: $1" >&2
  exit 3
}

# the process that a daemon's file names, unless the number is another program's by now
process() {
  local pid
  pid=$(cat "$folder/$1.pid" 2> /dev/null) && [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = "$1" ] && echo "$pid"
}

stop() {
  local daemon pid
  if process slurmctld > /dev/null; then
    timeout 20 scancel --quiet --user "$(id -un)" 2> /dev/null || true
    for _ in {1..50}; do
      [ -n "$(timeout 20 squeue --noheader 2> /dev/null)" ] || break
      sleep 0.2
    done
  fi
  for daemon in slurmd slurmctld munged; do
    pid=$(process $daemon) || continue
    kill "$pid"
    for _ in {1..50}; do
      process $daemon > /dev/null || break
      sleep 0.2
    done
    ! process $daemon > /dev/null || kill -9 "$pid"
  done
}

start() {
  local program missing=() host ports
  for program in munged mungekey slurmctld slurmd sbatch srun scontrol squeue scancel; do
    type -P $program > /dev/null || missing+=($program)
  done
  [ ${#missing[@]} -eq 0 ] || cannot "${missing[*]} not installed (Debian: apt-get install slurm-wlm munge)"
  [[ "$folder" != *[[:space:]]* && ${#folder} -le 90 ]] || cannot "'$folder': must have no spaces and at most 90 characters"

  mkdir -p "$folder"/{bin,state,spool}
  host=$(hostname -s)
  ports=($(python3 -c 'import socket; s = [socket.socket() for _ in range(2)]; [x.bind(("127.0.0.1", 0)) for x in s]; print(*(x.getsockname()[1] for x in s))'))
  cat > "$SLURM_CONF" <<TEXT
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmdPort=${ports[1]}
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
# a container has no cgroups to give away
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# for the tests to read: one line for each job that has ended
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobs.txt
# without accounting, what became of a job is known for so many seconds only
MinJobAge=300
ReturnToService=2
# two processors whatever there are, so that a test always has jobs that wait
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo) Gres=gpu:2
PartitionName=main Nodes=$host Default=YES MaxTime=60
TEXT
  printf "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n" > "$folder/gres.conf"
  # Snakemake's jobs call srun without any variable of Slurm, so that it would look for a cluster's own configuration
  printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(type -P srun)" > "$folder/bin/srun"
  chmod +x "$folder/bin/srun"

  [ -e "$folder/munge.key" ] || mungekey --create --keyfile "$folder/munge.key"
  # --force: a folder of tests is closed to others, which munged takes for a mistake
  munged --force --socket "$folder/munge.socket" --key-file "$folder/munge.key" --pid-file "$folder/munged.pid" \
    --log-file "$folder/munged.log" --seed-file "$folder/munge.seed" > "$folder/start.log" 2>&1 || failed munged start
  slurmctld -c >> "$folder/start.log" 2>&1 || failed slurmctld start
  slurmd -N "$host" >> "$folder/start.log" 2>&1 || failed slurmd start
  for _ in {1..150}; do
    ! idle || return 0
    sleep 0.2
  done
  failed "its node" "slurmctld slurmd"
}

idle() { [ "$(timeout 20 sinfo --noheader --format %t 2> /dev/null)" = idle ]; }

failed() {
  local log said
  said=$(for log in $2; do tail -n 1 "$folder/$log.log" 2> /dev/null; done | paste -sd ' ')
  stop
  cannot "$1 doesn't come up: ${said:-nothing said} (logs: $folder)"
}

if [ "$1" = stop ]; then
  stop
  exit
fi
if ! process munged > /dev/null || ! process slurmctld > /dev/null || ! process slurmd > /dev/null; then
  stop
  start
fi
printf 'export SLURM_CONF=%q PATH=%q:$PATH\n' "$SLURM_CONF" "$folder/bin"
