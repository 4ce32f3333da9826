#!/usr/bin/env bash
# Records through the page in Chromium and Firefox, against a product started for it in FOLDER, and looks at the files; then
# two people hold a call on it.
#   tests/web/record.sh FOLDER      CALLREEL_BIN_DIR: where edge and worker are built
set -euo pipefail

HERE=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
FOLDER=$1
# The database is another user, who passes through it.
[[ -d $FOLDER ]] || mkdir -m 711 -- "$FOLDER"
# How far a file may be from what the recorder says it recorded, in milliseconds.
TOLERANCE_MS=200
# What is left of 30 on a loaded machine whose browser encodes on the CPU.
FRAMES_PER_SECOND=5
# The browsers' false microphones beep at some -10 dB.
SILENCE_DB=-40

main() {
  "$HERE/../../deploy/local.sh" --port 0 --data "$FOLDER/data" >"$FOLDER/out" 2>&1 &
  PRODUCT=$!
  trap 'kill "$PRODUCT" 2>/dev/null && wait "$PRODUCT" 2>/dev/null || true' EXIT
  local url
  url=$(ready "$PRODUCT")
  cd -- "$HERE"
  CALLREEL_URL=$url node --test --test-reporter=tap --test-concurrency=1 record.test.mjs | tee "$FOLDER/tap"
  local seen=0 line
  while read -r line; do
    look_at "$line"
    seen=$((seen + 1))
  done < <(sed -n 's/^# \({"callId".*\)$/\1/p' "$FOLDER/tap")
  ((seen == 2)) || fail "two browsers were to record, $seen did"
  CALLREEL_URL=$url node --test --test-reporter=tap --test-concurrency=1 call.test.mjs
}

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# ready PID: the address that the product prints when calls can be made. `tail` ends with the product, and so does the wait.
ready() {
  local word address
  while read -r word address; do
    [[ $word != ready ]] || { printf '%s\n' "$address" && return; }
  done < <(tail -n +1 -f --pid="$1" "$FOLDER/out")
  cat "$FOLDER/out" >&2
  fail "the product did not start"
}

# first_place BYTES FILE: how many bytes are before the first such bytes
first_place() { LC_ALL=C grep -obUaP "$1" "$2" | LC_ALL=C cut -d: -f1 | sed -n 1p; }

# moves_and_sounds RECORDING FILE SECONDS: a picture whose frames decode from the beginning to the end, and a sound that is not silence.
moves_and_sounds() {
  local kinds frames loudest
  kinds=$(ffprobe -v error -f matroska -show_entries stream=codec_type -of csv=p=0 "$2" | sort | xargs)
  [[ $kinds == "audio video" ]] || fail "$1 has these streams: $kinds"
  frames=$(ffprobe -v error -f matroska -count_frames -select_streams v -show_entries stream=nb_read_frames -of csv=p=0 "$2")
  (($(jq -n "$frames / $3 >= $FRAMES_PER_SECOND | if . then 1 else 0 end"))) || fail "$1 has $frames frames in $3 s"
  loudest=$(ffmpeg -nostdin -hide_banner -f matroska -i "$2" -map 0:a -af volumedetect -f null - 2>&1 | sed -n 's/.*max_volume: \(.*\) dB/\1/p')
  (($(jq -n "$loudest > $SILENCE_DB | if . then 1 else 0 end"))) || fail "$1 is silent: $loudest dB at most"
}

# look_at JSON: the file is seekable, as long as what was recorded, decodes, and has five pictures 320 wide.
look_at() {
  local recording recorded folder file length off picture
  recording=$(jq -r .recordingId <<<"$1")
  recorded=$(jq -r .recordedMs <<<"$1")
  folder=$FOLDER/data/recordings/recordings/$recording
  file=$folder/recording.webm
  length=$(ffprobe -v error -f matroska -show_entries format=duration -of csv=p=0 "$file")
  off=$(jq -n "($length * 1000 - $recorded) | fabs | floor")
  ((off <= TOLERANCE_MS)) || fail "$recording: the file lasts $length s, $recorded ms were recorded"
  # Matroska ids of the cues and of the first cluster: who seeks finds the index before the media.
  local cues cluster
  cues=$(first_place '\x1c\x53\xbb\x6b' "$file")
  cluster=$(first_place '\x1f\x43\xb6\x75' "$file")
  ((cues < cluster)) || fail "$recording: the cues are behind the media"
  # Passed through at the file's own times: the null muxer's frame rate is not the question.
  local complaints
  complaints=$(ffmpeg -nostdin -v error -f matroska -i "$file" -map 0 -fps_mode passthrough -enc_time_base -1 -f null - 2>&1)
  [[ -z $complaints ]] || fail "$recording does not decode: $complaints"
  moves_and_sounds "$recording" "$file" "$length"
  local pictures=("$folder"/thumbnail-*.jpg)
  ((${#pictures[@]} == 5)) || fail "$recording has ${#pictures[@]} thumbnails"
  for picture in "${pictures[@]}"; do
    [[ $(ffprobe -v error -show_entries stream=width -of csv=p=0 "$picture") == 320 ]] || fail "$picture is not 320 wide"
  done
  printf 'ok      %s: %s s in the file, %s ms off what was recorded\n' "$recording" "$length" "$off"
}

main
