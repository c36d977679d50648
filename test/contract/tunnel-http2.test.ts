import { runTunnelContract } from './tunnel-contract.js';
import { http2Engine } from './tunnel-http2-engine.js';
import { runTunnelLifetimeContract } from './tunnel-lifetime-contract.js';

runTunnelContract(http2Engine);
runTunnelLifetimeContract(http2Engine);
