/**
 * @file Everybody's voice, and the sound of what they show. Beside the views, because a call is heard while its page is not shown.
 */

/** @param {import("../conversation.js").Conversation} conversation */
export function playSound(conversation) {
  /** By track, which outlives its owner's name. @type {Map<MediaStreamTrack, HTMLAudioElement>} */
  const playing = new Map();
  const update = () => {
    const wanted = new Set(conversation.busy ? conversation.people.flatMap(({ tracks }) => [tracks.audio ?? [], tracks["screen-audio"] ?? []].flat()) : []);
    for (const [track, audio] of playing) {
      if (wanted.has(track)) continue;
      audio.srcObject = null;
      playing.delete(track);
    }
    for (const track of wanted) if (!playing.has(track)) playing.set(track, play(track));
  };
  conversation.addEventListener("change", update);
}

/** @param {MediaStreamTrack} track */
function play(track) {
  const audio = new Audio();
  audio.srcObject = new MediaStream([track]);
  void audio.play().catch(() => {}); // whoever joined has pressed a button, so browsers allow it
  return audio;
}
