/** A way to the edge's port for media that loses packets: for one client, in this process. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { isIPv6 } from "node:net";

/** @typedef {{ address: string, port: number }} Met */
/** @typedef {{ met: Met, lost: number, close: () => void }} Way */

/**
 * Every so many-th packet of media is lost in each direction; checks, handshakes and reports arrive.
 * @param {Met} edge where the edge is met
 * @param {number} every
 * @returns {Promise<Way>}
 */
export async function lossyWay(edge, every) {
  const near = createSocket(isIPv6(edge.address) ? "udp6" : "udp4");
  near.bind(0, edge.address);
  await once(near, "listening");
  /** A browser has a socket for each of its addresses; the edge has to tell them apart. @type {Map<number, import("node:dgram").Socket>} */
  const far = new Map();
  const way = { met: { address: edge.address, port: near.address().port }, lost: 0, close: () => [near, ...far.values()].forEach((socket) => socket.close()) };
  let passed = 0;
  const loses = (/** @type {Buffer} */ packet) => {
    const lost = isMedia(packet) && ++passed % every === 0;
    way.lost += Number(lost);
    return lost;
  };
  near.on("message", (packet, { port, address }) => {
    if (!far.has(port)) {
      const socket = createSocket(isIPv6(edge.address) ? "udp6" : "udp4");
      socket.on("message", (packet) => loses(packet) || near.send(packet, port, address));
      far.set(port, socket);
    }
    if (!loses(packet)) far.get(port)?.send(packet, edge.port, edge.address);
  });
  return way;
}

/** RTP, as RFC 5761, section 4, tells it from RTCP. @param {Buffer} packet */
function isMedia(packet) {
  const [first = 0, second = 0] = packet;
  return first >= 128 && first < 192 && !(second >= 192 && second < 224);
}
