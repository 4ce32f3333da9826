#!/usr/bin/env bash
# Records ten seconds through a running Callreel as a browser would: live WebM in real time, cut into blobs of
# about a second at whatever byte that falls on, each uploaded under its sequence number.
#
# usage: demo.sh URL OUTPUT_DIR     (the edge's address, and its RECORDING_OUTPUT_DIR)
#
# Needs the development login, curl, jq and ffmpeg. The last lines on stdout are the result: `recording <path>`,
# `duration <ms>` and five times `thumbnail <path>`.
set -euo pipefail

# shellcheck source=lib/common.sh
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib/common.sh"

URL=${1:?usage: demo.sh URL OUTPUT_DIR}
OUTPUT_DIR=${2:?usage: demo.sh URL OUTPUT_DIR}
USER_ID=demo
SECONDS_RECORDED=10
THUMBNAILS=5
# FFmpeg in real time, and what a loaded machine may add to it.
RECORD_LIMIT=60
# From stop to completed: the wait for late chunks, muxing, thumbnails, upload; seconds on any machine.
FINISH_LIMIT=180
CHUNK_RETRIES=10

main() {
  WORK=$(mktemp -d)
  trap clean_up EXIT
  trap 'exit 130' INT TERM HUP
  TOKEN=$(post /dev/token "$(jq -nc --arg u "$USER_ID" '{userId: $u}')" | jq -er '.token // .data.token')
  CALL=$(post /video-calls '{"title":"Demo"}' | jq -er .data.id)
  RECORDING=$(post "/video-calls/$CALL/recording/start" '{}' | jq -er '.data.recordingId // .data.id')
  say "recording $SECONDS_RECORDED s of test picture and tone as $RECORDING"
  record
  post "$(track)/complete" "{\"lastSequence\":$((SEQUENCE - 1))}" >/dev/null
  post "/video-calls/$CALL/recording/stop" '' >/dev/null
  say "$SEQUENCE blobs uploaded; waiting for the finished file"
  finish
  report
}

clean_up() {
  [[ -z ${ENCODER:-} ]] || kill -KILL "$ENCODER" 2>/dev/null || true
  rm -rf -- "$WORK"
}

# --- talking to the edge ---------------------------------------------------------------------------------------

# The token goes through a file descriptor: an argument could be read by everyone on the machine.
call() {
  local path=$1
  shift
  curl -sS --fail-with-body -m 60 -H @<(bearer) "$@" -- "$URL$path" || die "the edge refused $path"
}

bearer() { [[ -z ${TOKEN:-} ]] || printf 'authorization: Bearer %s\n' "$TOKEN"; }

post() {
  if [[ -n $2 ]]; then
    call "$1" -X POST -H 'content-type: application/json' --data-binary "$2"
  else
    call "$1" -X POST
  fi
}

track() { echo "/video-calls/recording/$RECORDING/participants/$USER_ID/video"; }

upload() {
  local blob=$1 digest
  digest=$(sha256sum -- "$blob" | cut -c1-64 | tr a-f A-F | basenc --base16 -d | base64)
  call "$(track)/chunks/$SEQUENCE" -X PUT --retry "$CHUNK_RETRIES" --retry-all-errors --retry-max-time 60 \
    -H 'content-type: video/webm;codecs=vp8,opus' -H "content-digest: sha-256=:$digest:" \
    -H "x-chunk-timestamp: $(date +%s%3N)" --upload-file "$blob" >/dev/null
  SEQUENCE=$((SEQUENCE + 1))
}

# --- recording -------------------------------------------------------------------------------------------------

# `pipe:1` makes FFmpeg write as into a pipe, never seeking back: no duration, no index, as from a MediaRecorder.
record() {
  local live=$WORK/live.webm sent=0 deadline=$((SECONDS + RECORD_LIMIT))
  : >"$live"
  ffmpeg -nostdin -hide_banner -loglevel error \
    -re -f lavfi -i testsrc2=size=640x360:rate=30 -re -f lavfi -i sine=frequency=440:sample_rate=48000 \
    -t "$SECONDS_RECORDED" -map 0:v -map 1:a -pix_fmt yuv420p \
    -c:v libvpx -deadline realtime -cpu-used 8 -b:v 1M -g 30 -c:a libopus -b:a 64k \
    -f webm -live 1 -flush_packets 1 pipe:1 >>"$live" </dev/null &
  ENCODER=$!
  SEQUENCE=0
  while ! is_gone "$ENCODER"; do
    ((SECONDS < deadline)) || die "ffmpeg did not end within $RECORD_LIMIT s"
    sleep 1 # the timeslice of the recorder that this plays
    cut_blob
  done
  wait "$ENCODER" || die "ffmpeg failed"
  ENCODER=""
  cut_blob
}

# Uploads what has been written since the last time.
cut_blob() {
  local size
  size=$(stat -c %s -- "$live")
  ((size > sent)) || return 0
  tail -c "+$((sent + 1))" -- "$live" | head -c "$((size - sent))" >"$WORK/blob" || true # head may leave tail a broken pipe
  upload "$WORK/blob"
  sent=$size
}

# --- the result ------------------------------------------------------------------------------------------------

finish() {
  local deadline=$((SECONDS + FINISH_LIMIT)) status
  while true; do
    RESULT=$(call "/video-calls/$CALL/recording/$RECORDING" | jq -ec .data)
    status=$(jq -r .status <<<"$RESULT")
    case $status in
      completed) return ;;
      failed) die "the recording failed: $(jq -c .error <<<"$RESULT")" ;;
    esac
    ((SECONDS < deadline)) || die "the recording is still $status (stage $(jq -r .stage <<<"$RESULT")) after $FINISH_LIMIT s"
    sleep 0.2
  done
}

report() {
  local file thumbnails
  file=$OUTPUT_DIR/$(jq -er .outputPath <<<"$RESULT")
  [[ -s $file ]] || die "the finished file is not there: $file"
  mapfile -t thumbnails < <(jq -r '.artifacts[] | select(.kind == "thumbnail") | .key' <<<"$RESULT")
  ((${#thumbnails[@]} == THUMBNAILS)) || die "expected $THUMBNAILS thumbnails, found ${#thumbnails[@]}"
  echo "$CALL $RECORDING as ffprobe sees it:"
  ffprobe -v error -of compact -show_entries \
    stream=index,codec_type,codec_name,width,height,sample_rate,channels:format=format_name,duration,size -- "$file"
  echo "recording $file"
  echo "duration $(jq -er .duration <<<"$RESULT")"
  local thumbnail
  for thumbnail in "${thumbnails[@]}"; do
    [[ -s $OUTPUT_DIR/$thumbnail ]] || die "a thumbnail is not there: $OUTPUT_DIR/$thumbnail"
    echo "thumbnail $OUTPUT_DIR/$thumbnail"
  done
}

main "$@"
