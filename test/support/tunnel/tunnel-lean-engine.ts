import { leanHttp2Engine } from '../../../agent/dataplane/engine/lean/lean-http2-engine.js';
import type { Http2Engine } from '../../../agent/dataplane/engine/http2-engine.js';
import { Http2TunnelClient } from '../../../agent/dataplane/tunnel/http2-tunnel-client.js';
import { Http2TunnelServer } from '../../../agent/dataplane/tunnel/http2-tunnel-server.js';
import { nodeHttp2Engine } from '../../../agent/dataplane/engine/node/node-http2-engine.js';
import type { TunnelEngine } from './tunnel-pair.js';

function engineOf(name: string, client: Http2Engine, server: Http2Engine): TunnelEngine {
  return {
    name,
    client: (options) => new Http2TunnelClient({ ...options, engine: client }),
    server: (options) => new Http2TunnelServer({ ...options, engine: server }),
  };
}

export const leanEngine: TunnelEngine = {
  ...engineOf('lean', leanHttp2Engine, leanHttp2Engine),
  firstWindowBytes: 131_072,
};
export const leanClientEngine = engineOf('lean client, node server', leanHttp2Engine, nodeHttp2Engine);
/**
 * Node's session reads only between its own writes (`tunnel/keep-reading.ts`), and the credit it waits for comes behind
 * all the data of a server that never pauses: with bulk both ways it gets there, but slowly.
 */
export const leanServerEngine: TunnelEngine = {
  ...engineOf('node client, lean server', nodeHttp2Engine, leanHttp2Engine),
  bothWaysBytes: 524_288,
};
