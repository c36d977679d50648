import type { Http2Engine } from '../engine/http2-engine.js';
import type { Http2EngineName } from '../settings.js';

/** The engine of this name. Only the one that is used is loaded: `node:http2` alone takes a megabyte of each thread. */
export async function loadEngine(name: Http2EngineName): Promise<Http2Engine> {
  if (name === 'node') return (await import('../engine/node/node-http2-engine.js')).nodeHttp2Engine;
  return (await import('../engine/lean/lean-http2-engine.js')).leanHttp2Engine;
}
