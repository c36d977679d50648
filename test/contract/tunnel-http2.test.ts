import { runTunnelHostileContract } from './tunnel-hostile-contract.js';
import { runTunnelContract } from './tunnel-contract.js';
import { http2Engine } from '../support/tunnel/tunnel-http2-engine.js';
import { runTunnelLifetimeContract } from './tunnel-lifetime-contract.js';
import { runTunnelRotationContract } from './tunnel-rotation-contract.js';

runTunnelContract(http2Engine);
runTunnelHostileContract(http2Engine);
runTunnelLifetimeContract(http2Engine);
runTunnelRotationContract(http2Engine);
