import type { Http2Engine, Http2EngineName } from './tunnel/http2-engine.js';

/** The engine of this name. Only the one that is used is loaded: `node:http2` alone takes a megabyte of each thread. */
export async function loadEngine(name: Http2EngineName): Promise<Http2Engine> {
  if (name === 'node') return (await import('./tunnel/node-http2-engine.js')).nodeHttp2Engine;
  return (await import('./h2/lean-http2-engine.js')).leanHttp2Engine;
}
