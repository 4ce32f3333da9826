# shellcheck shell=bash
# A small supervisor: starts services, starts them again with backoff when they die, ends them in order.
# Sourced after common.sh. The script that sources it gives
#   start_service NAME   starts it through `spawn` (the only thing that knows commands), and
#   on_helper NAME CODE  is told when a helper (`help_with`) has ended,
#   is_final NAME CODE   says whether a service that ended so is not to be started again, and
#   on_final NAME        is told then; it leaves the script.
# Everything is driven by `wait -n`: a service, a timer and a helper are all children, and nothing polls.

# The first pause is short, because most crashes are not repeated; the last one is a bound on load and on log.
BACKOFF_FIRST=1
BACKOFF_LAST=30
# Up this long, a process counts as healthy, and its next death starts again at the first pause.
HEALTHY_AFTER=60
# A log is emptied into its `.1` beyond this; looked at every LOG_CHECK seconds.
LOG_MAX_BYTES=$((64 * 1024 * 1024))
LOG_CHECK=10

declare -A PID_OF=() STARTED_AT=() BACKOFF=() HELPERS=()
# How often each service has died; the readiness check gives up early on one that keeps dying.
declare -A DEATHS=()

# spawn NAME COMMAND…: in a session of its own, so that a Ctrl-C in the terminal reaches only the supervisor, which
# then ends everything in order. CALLREEL_DATA marks it as ours for `end_strays`; not so the database, which must
# outlive the others and is found by its folder (pg_processes). Nothing gets the lock (9) or our input.
spawn() {
  local name=$1 mark=(env -C / "CALLREEL_DATA=$DATA")
  shift
  [[ $name != postgres ]] || mark=(env -C /)
  "${mark[@]}" setsid "$@" >>"$LOGS/$name.log" 2>&1 </dev/null 9>&- &
  PID_OF[$name]=$!
  STARTED_AT[$name]=$SECONDS
  [[ $name == postgres ]] || echo "$!" >"$DATA/$name.pid"
}

# help_with NAME COMMAND…: a child that is not restarted; its end is reported to on_helper.
help_with() {
  local name=$1
  shift
  "$@" </dev/null 9>&- &
  HELPERS[$!]=$name
}

# Never returns; the script leaves by a trap or by `exit` in on_helper.
supervise() {
  local ended code name
  help_with timer:logs sleep "$LOG_CHECK"
  while true; do
    ended="" code=0
    wait -n -p ended 2>/dev/null || code=$? # bash would print its own line about a child that was killed
    [[ -n $ended ]] || continue
    if [[ -n ${HELPERS[$ended]:-} ]]; then
      name=${HELPERS[$ended]}
      unset "HELPERS[$ended]"
      helper_ended "$name" "$code"
    else
      service_ended "$ended" "$code"
    fi
  done
}

helper_ended() {
  case $1 in
    timer:logs)
      bound_logs
      notice_missed
      help_with timer:logs sleep "$LOG_CHECK"
      ;;
    timer:restart:*) start_service "${1#timer:restart:}" ;;
    *) on_helper "$1" "$2" ;;
  esac
}

service_ended() {
  local pid=$1 code=$2 name
  for name in "${!PID_OF[@]}"; do
    [[ ${PID_OF[$name]} == "$pid" ]] || continue
    unset "PID_OF[$name]"
    ! is_final "$name" "$code" || on_final "$name"
    restart_later "$name" "$code"
    return
  done
}

restart_later() {
  local name=$1 code=$2 pause=${BACKOFF[$1]:-$BACKOFF_FIRST}
  ((SECONDS - STARTED_AT[$name] < HEALTHY_AFTER)) || pause=$BACKOFF_FIRST
  BACKOFF[$name]=$((pause * 2 > BACKOFF_LAST ? BACKOFF_LAST : pause * 2))
  DEATHS[$name]=$((${DEATHS[$name]:-0} + 1))
  say "$name ended ($(what_happened "$code")); starting it again in $pause s (log: $LOGS/$name.log)"
  help_with "timer:restart:$name" sleep "$pause"
}

what_happened() {
  if (($1 > 128)); then echo "signal $(kill -l "$1")"; else echo "exit code $1"; fi
}

# A service whose end `wait -n` did not tell (bash forgets children that ended while another wait was going on).
notice_missed() {
  local name
  for name in "${!PID_OF[@]}"; do
    ! is_gone "${PID_OF[$name]}" || service_ended "${PID_OF[$name]}" 0
  done
}

# The writers append, so a log can be copied away and emptied under them.
bound_logs() {
  local log
  for log in "$LOGS"/*.log; do
    (($(stat -c %s -- "$log") > LOG_MAX_BYTES)) || continue
    cp -f -- "$log" "$log.1" && : >"$log"
  done
}

end_helpers() {
  local pid
  for pid in "${!HELPERS[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
  done
  HELPERS=()
}

# end_services SECONDS NAME…: TERM to all of them at once, then one shared wait, then KILL; 1 if any needed that.
end_services() {
  local grace=$1 name pids=() code=0
  shift
  for name; do
    [[ -n ${PID_OF[$name]:-} ]] || continue
    pids+=("${PID_OF[$name]}")
    kill -TERM "${PID_OF[$name]}" 2>/dev/null || true
  done
  end_pids "$grace" "${pids[@]}" || code=1
  for name; do
    rm -f -- "$DATA/$name.pid"
    unset "PID_OF[$name]"
  done
  return "$code"
}

end_pids() {
  local grace=$1
  shift
  # Inside a trap, `return` alone would give the status from before it.
  wait_until "$grace" all_gone "$@" && return 0
  say "still running after $grace s, killing: $*"
  kill -KILL "$@" 2>/dev/null || true
  return 1
}

all_gone() {
  local pid
  for pid; do
    is_gone "$pid" || return 1
  done
}

# Processes that carry our mark: of a run whose supervisor was killed, or FFmpeg of a worker that was. The mark is
# looked for in the process itself, because a pid file can be stale and its number somebody else's.
strays() {
  { grep -lzxF -- "CALLREEL_DATA=$DATA" /proc/[0-9]*/environ 2>/dev/null || true; } | cut -d/ -f3
}

# end_strays SECONDS
end_strays() {
  local pids
  mapfile -t pids < <(strays)
  ((${#pids[@]})) || return 0
  say "ending what was left running: ${pids[*]}"
  kill -TERM "${pids[@]}" 2>/dev/null || true
  end_pids "$1" "${pids[@]}" || true
}
