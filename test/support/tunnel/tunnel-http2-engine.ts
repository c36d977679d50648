import { Http2TunnelClient } from '../../../agent/dataplane/tunnel/http2-tunnel-client.js';
import { Http2TunnelServer } from '../../../agent/dataplane/tunnel/http2-tunnel-server.js';
import { nodeHttp2Engine } from '../../../agent/dataplane/engine/node/node-http2-engine.js';
import type { TunnelEngine } from './tunnel-pair.js';

export const http2Engine: TunnelEngine = {
  name: 'node:http2',
  boundsHeaderBlocks: Number((process.versions['nghttp2'] ?? '').split('.')[1]) >= 61,
  client: (options) => new Http2TunnelClient({ ...options, engine: nodeHttp2Engine }),
  server: (options) => new Http2TunnelServer({ ...options, engine: nodeHttp2Engine }),
};
