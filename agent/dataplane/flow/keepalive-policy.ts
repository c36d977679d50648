import type { KeepalivePolicy } from '../../../shared/policy/traffic-documents.js';
import { mostProbesOfAll, type Probing } from '../../native/tcp-life.js';

const mostSeconds = 32_767;

/**
 * How the kernel probes an endpoint that is given up as a document says, where something else asks it every `everySeconds` too:
 * no less often than either, and it is given up after the same time.
 */
export function probingBy(
  { idleSeconds, everySeconds, probes }: KeepalivePolicy,
  askSeconds: number,
): Pick<Probing, 'everySeconds'> & { readonly idleSeconds: number; readonly mostProbes: number } {
  const idle = Math.min(idleSeconds, askSeconds);
  const leftSeconds = idleSeconds + everySeconds * probes - idle;
  // The kernel counts no further than to 127.
  const pause = Math.max(Math.min(everySeconds, askSeconds), Math.ceil(leftSeconds / mostProbesOfAll));
  const every = Math.min(pause, mostSeconds);
  return {
    idleSeconds: idle,
    everySeconds: every,
    mostProbes: Math.min(Math.ceil(leftSeconds / every), mostProbesOfAll),
  };
}
