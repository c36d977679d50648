import { runTunnelContract } from './tunnel-contract.js';
import { http2Engine } from './tunnel-http2-engine.js';

runTunnelContract(http2Engine);
